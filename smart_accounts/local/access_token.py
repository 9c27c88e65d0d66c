"""An access token for the API, got from the local provider as a partner's program gets one."""

import httpx

from smart_accounts.errors import SmartAccountsError, Unavailable
from smart_accounts.local.configuration import Plan
from smart_accounts.local.people import PEOPLE, name_of
from smart_accounts.web.api.bearer import SCOPE

_WANTED = f"openid email profile {SCOPE}"
_REDIRECT_URI = "http://127.0.0.1/"  # nothing is opened there: the code is read off the redirect


class UnknownPerson(SmartAccountsError):
    """Nobody of that name is ready to sign in."""


async def access_token(plan: Plan, person: str) -> str:
    """Register a client and sign the person in, with the authorization code flow.

    Raises:
        UnknownPerson: one line that names those who are known.
        Unavailable: the local provider does not run.
    """
    subjects = {name_of(subject): subject for subject in PEOPLE}
    if person not in subjects:
        raise UnknownPerson(f"nobody here is called {person!r}, only {', '.join(subjects)}")
    if not plan.has_provider:
        raise Unavailable("the identity provider is not the local one: get a token from yours")
    try:
        return await _through_the_flow(plan.url("OIDC_PORT"), subjects[person])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        raise Unavailable(
            f"no identity provider answers at {plan.url('OIDC_PORT')}: "
            "make run starts it, OIDC_PORT says where"
        ) from None


async def _through_the_flow(issuer: str, subject: str) -> str:
    async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
        found = (await http.get(f"{issuer}/.well-known/openid-configuration")).json()
        registration = {"redirect_uris": [_REDIRECT_URI], "scope": _WANTED}
        client = (await http.post(found["registration_endpoint"], json=registration)).json()
        asked = {
            "response_type": "code",
            "client_id": client["client_id"],
            "redirect_uri": _REDIRECT_URI,
            "scope": _WANTED,
        }
        signed_in = await http.post(
            found["authorization_endpoint"], params=asked, data={"sub": subject}
        )
        form = {
            "grant_type": "authorization_code",
            "code": httpx.URL(signed_in.headers["location"]).params["code"],
            "redirect_uri": _REDIRECT_URI,
        }
        secret = (client["client_id"], client["client_secret"])
        tokens = (await http.post(found["token_endpoint"], data=form, auth=secret)).json()
        return str(tokens["access_token"])
