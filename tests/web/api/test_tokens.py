"""Which access tokens the API accepts."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from tests.support.api import Api, OpenApi
from tests.support.issuer import AUDIENCE, Issuer

REQUESTS = "/api/v1/requests"


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwt_of(header: object, claims: object, signature: bytes = b"") -> str:
    """Return a token without checking its header and claims."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(map(base64url, parts))


def unsigned(issuer: Issuer) -> str:
    return jwt_of({"alg": "none", "kid": "first"}, issuer.claims())


def signed_with_the_public_key_as_a_secret(issuer: Issuer) -> str:
    pem = issuer.keys[0].as_pem(private=False)
    signed, _, _ = jwt_of({"alg": "HS256", "kid": "first"}, issuer.claims()).rpartition(".")
    return f"{signed}.{base64url(hmac.digest(pem, signed.encode(), hashlib.sha256))}"


def signed_with_a_published_secret(issuer: Issuer) -> str:
    secret = OctKey.import_key("a secret that everybody can read", {"kid": "shared"})
    keys = [issuer.keys[0].as_dict(private=False), secret.as_dict(private=True)]
    issuer.responses["/keys"] = {"keys": keys}
    return jwt.encode({"alg": "HS256", "kid": "shared"}, issuer.claims(), secret)


def signed_with_another_key(issuer: Issuer, **changes: Any) -> str:
    key = RSAKey.generate_key(2048, {"kid": "first"})
    header = {"alg": "RS256", "kid": "first", **changes}
    return jwt.encode(header, issuer.claims(), key)


def signed_with_the_key_in_its_header(issuer: Issuer) -> str:
    key = RSAKey.generate_key(2048, {"kid": "mine"})
    header = {"alg": "RS256", "kid": "mine", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, issuer.claims(), key)


def with_changed_claims(issuer: Issuer) -> str:
    head, _, signature = issuer.token().split(".")
    claims = json.dumps(issuer.claims(email="eve@evil.example")).encode()
    return f"{head}.{base64url(claims)}.{signature}"


def signed_with_an_encryption_key(issuer: Issuer) -> str:
    key = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})
    issuer.keys = [issuer.keys[0], key]
    return jwt.encode(
        {"alg": "RS256", "kid": "enc"},
        issuer.claims(),
        RSAKey.import_key({**key.as_dict(private=True), "use": "sig"}),
    )


HOSTILE: dict[str, Callable[[Issuer], str]] = {
    "unsigned": unsigned,
    "public key as secret": signed_with_the_public_key_as_a_secret,
    "published secret": signed_with_a_published_secret,
    "another key": signed_with_another_key,
    "another key, unknown kid": lambda issuer: signed_with_another_key(issuer, kid="other"),
    "key in its header": signed_with_the_key_in_its_header,
    "changed claims": with_changed_claims,
    "signature cut": lambda issuer: issuer.token().rpartition(".")[0] + ".",
    "encryption key": signed_with_an_encryption_key,
    "RS512": lambda issuer: issuer.token({"alg": "RS512"}),
    "other issuer": lambda issuer: issuer.token(iss="https://evil.example"),
    "no issuer": lambda issuer: issuer.token(iss=None),
    "other audience": lambda issuer: issuer.token(aud="web"),
    "other audiences": lambda issuer: issuer.token(aud=["web", "smart-accounts-api-2"]),
    "no audience": lambda issuer: issuer.token(aud=None),
    "expired": lambda issuer: issuer.token(exp=int(time.time()) - 61),
    "no expiry": lambda issuer: issuer.token(exp=None),
    "expiry is not a number": lambda issuer: issuer.token(exp="never"),
    "not valid yet": lambda issuer: issuer.token(nbf=int(time.time()) + 120),
    "no subject": lambda issuer: issuer.token(sub=None),
    "unknown crit": lambda issuer: jwt_of(
        {"alg": "RS256", "kid": "first", "crit": ["x"], "x": 1}, issuer.claims(), b"x"
    ),
    "header is a list": lambda issuer: jwt_of(["alg"], issuer.claims(), b"x"),
    "alg is a list": lambda issuer: jwt_of({"alg": ["RS256"]}, issuer.claims(), b"x"),
    "kid is an object": lambda issuer: jwt_of({"alg": "RS256", "kid": {}}, {}, b"x"),
    "encrypted": lambda _: "a.b.c.d.e",
    "opaque": lambda _: "2YotnFZFEjr1zCsicMWpAA",
    "long": lambda _: "a" * 30_000,
}


def check_rejected(response: httpx.Response, status: int, error: str | None) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    challenge = "Bearer" + (f' error="{error}"' if error else "")
    assert response.headers["www-authenticate"] == challenge
    detail: str = response.json()["detail"]
    return detail


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_token_is_rejected(api: Api, name: str) -> None:
    headers = {"Authorization": f"Bearer {HOSTILE[name](api.issuer)}"}
    response = await api.http.post(REQUESTS, json=api.body, headers=headers)
    detail = check_rejected(response, 401, "invalid_token")
    assert detail.startswith("The token is rejected: ")
    assert not api.temporal.running


@pytest.mark.parametrize("header", ["", "Basic cGF0OnBhdA==", "Bearer", "Bearer "])
async def test_call_without_token(api: Api, header: str) -> None:
    for method, path in [("GET", REQUESTS), ("POST", REQUESTS), ("POST", f"{REQUESTS}/x/resend")]:
        response = await api.http.request(method, path, headers={"Authorization": header})
        check_rejected(response, 401, None)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
async def test_genuine_token_is_accepted(api: Api, algorithm: str) -> None:
    if algorithm == "ES256":
        api.issuer.keys = [ECKey.generate_key("P-256", {"kid": "first"})]
    audiences = ["other", AUDIENCE]
    token = api.issuer.token({"alg": algorithm}, aud=audiences, nbf=int(time.time()) + 30)
    response = await api.http.get(REQUESTS, headers={"Authorization": f"bearer {token}"})
    assert response.status_code == 200


@pytest.mark.parametrize("scope", [None, "openid", "smart-accounts-x", ["openid"], 7])
async def test_token_without_the_scope_is_rejected(api: Api, scope: object) -> None:
    """For example, an ID token has no scope."""
    response = await api.http.get(REQUESTS, headers=api.issuer.headers(scope=scope))
    check_rejected(response, 403, "insufficient_scope")


async def test_scope_may_be_a_list(api: Api) -> None:
    headers = api.issuer.headers(scope=["openid", "smart-accounts"])
    assert (await api.http.get(REQUESTS, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"email": None},
        {"email": "pat"},
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "false"},
        {"name": None},
        {"name": "<>"},
        {"company": None},
        {"company": 7},
    ],
)
async def test_token_without_a_valid_requester_is_rejected(
    api: Api, claims: dict[str, Any]
) -> None:
    response = await api.http.post(REQUESTS, json=api.body, headers=api.issuer.headers(**claims))
    detail = check_rejected(response, 403, None)
    assert "names no" in detail
    assert ("does not say" in detail) is (claims == {"email_verified": None})
    assert not api.temporal.running


async def test_claims_are_read_as_at_a_sign_in(api: Api) -> None:
    claims = {"email_verified": "true", "name": "Pat <Lee>\u202e", "company": ["", "Partner <Ltd>"]}
    response = await api.http.post(REQUESTS, json=api.body, headers=api.issuer.headers(**claims))
    assert response.status_code == 201
    running, _ = api.temporal.running["smart-account-acme.example"]
    requester = running.request.requester
    assert (requester.name, requester.company) == ("Pat Lee", "Partner Ltd")


async def test_company_from_the_sign_in_is_used(api: Api) -> None:
    await api.store.partners.keep_company(api.issuer.url, "pat", "Kept Ltd")
    response = await api.http.post(
        REQUESTS, json=api.body, headers=api.issuer.headers(company=None)
    )
    assert response.status_code == 201
    running, _ = api.temporal.running["smart-account-acme.example"]
    assert running.request.requester.company == "Kept Ltd"


async def test_no_token_is_valid_without_an_issuer(api: Api, open_api: OpenApi) -> None:
    async with open_api(api.temporal, oidc_issuer=None, oidc_client_id=None) as http:
        assert "no identity provider" in check_rejected(await http.get(REQUESTS), 401, None)


async def test_client_id_is_the_default_audience(api: Api, open_api: OpenApi) -> None:
    async with open_api(api.temporal, oidc_audience=None) as http:
        assert (await http.get(REQUESTS)).status_code == 401
        headers = api.issuer.headers(aud="web")
        assert (await http.get(REQUESTS, headers=headers)).status_code == 200
