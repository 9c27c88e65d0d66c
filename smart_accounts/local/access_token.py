"""Get an access token for the API from the local provider, as a partner's program does."""

import httpx

from smart_accounts.contract.names import API_SCOPE
from smart_accounts.errors import SmartAccountsError, Unavailable
from smart_accounts.local.configuration import StackConfiguration
from smart_accounts.local.people import PEOPLE, display_name

_SCOPES = f"openid email profile {API_SCOPE}"
# Nothing listens at this address, because the code is read from the redirect itself.
_REDIRECT_URI = "http://127.0.0.1/"


class UnknownPerson(SmartAccountsError):
    """The local provider has no person with this name."""


async def access_token(stack: StackConfiguration, person: str) -> str:
    """Register a client and sign the person in, with the authorization code flow.

    Raises:
        UnknownPerson: the local provider has no such person. The message lists all names.
        Unavailable: the local provider is not running.
    """
    subjects = {display_name(subject): subject for subject in PEOPLE}
    if person not in subjects:
        raise UnknownPerson(f"unknown person {person!r}; choose one of {', '.join(subjects)}")
    if not stack.has_provider:
        raise Unavailable("the stack uses another identity provider; get the token there")
    try:
        return await _authorization_code_flow(stack.url("OIDC_PORT"), subjects[person])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        raise Unavailable(
            f"no identity provider is running at {stack.url('OIDC_PORT')}; "
            "start it with make run, or set OIDC_PORT to its port"
        ) from None


async def _authorization_code_flow(issuer: str, subject: str) -> str:
    async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
        discovery = (await http.get(f"{issuer}/.well-known/openid-configuration")).json()
        registration = {"redirect_uris": [_REDIRECT_URI], "scope": _SCOPES}
        client = (await http.post(discovery["registration_endpoint"], json=registration)).json()
        authorization = {
            "response_type": "code",
            "client_id": client["client_id"],
            "redirect_uri": _REDIRECT_URI,
            "scope": _SCOPES,
        }
        signed_in = await http.post(
            discovery["authorization_endpoint"], params=authorization, data={"sub": subject}
        )
        form = {
            "grant_type": "authorization_code",
            "code": httpx.URL(signed_in.headers["location"]).params["code"],
            "redirect_uri": _REDIRECT_URI,
        }
        credentials = (client["client_id"], client["client_secret"])
        tokens = await http.post(discovery["token_endpoint"], data=form, auth=credentials)
        return str(tokens.json()["access_token"])
