"""Which ID tokens are accepted."""

from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from starlette.responses import JSONResponse

from tests.support.identity_provider import FakeProvider, Visitor

WRONG_CLAIMS: list[dict[str, Any]] = [
    {"iss": "https://evil.example"},
    {"iss": None},
    {"aud": "another client"},
    {"aud": None},
    {"aud": ["us", "another client"]},  # without azp
    {"aud": ["us", "another client"], "azp": "another client"},
    {"azp": "another client"},
    {"nonce": "from another sign-in"},
    {"nonce": None},
    {"exp": 1},
    {"exp": None},
    {"iat": None},
    {"iat": 4_000_000_000},
    {"sub": None},
    {"sub": 5},
]


@pytest.mark.parametrize("claims", WRONG_CLAIMS, ids=str)
async def test_id_token_with_wrong_claims_is_rejected(
    visitor: Visitor, claims: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    visitor.provider.token_changes |= claims
    await visitor.check_rejected(await visitor.sign_in(), "could not verify")
    assert "sign-in failed: token" in caplog.text
    assert "pat@" not in caplog.text


async def test_id_token_with_nested_claims_is_rejected(visitor: Visitor) -> None:
    back = await visitor.start_sign_in()
    provider = visitor.provider
    nested = jws.serialize_compact(provider.token_header, "[" * 3000, provider.signing_key)
    provider.token_response_changes["id_token"] = nested
    await visitor.check_rejected(await visitor.open_callback(**back), "could not verify")


async def test_several_audiences_need_us_as_the_authorized_party(visitor: Visitor) -> None:
    visitor.provider.token_changes |= {"aud": ["us", "another client"], "azp": "us"}
    assert (await visitor.sign_in()).status_code == 303


def signed_with_another_key(provider: FakeProvider) -> None:
    provider.signing_key = RSAKey.generate_key(2048)


def unsigned(provider: FakeProvider) -> None:
    provider.token_header = {"alg": "none"}


def signed_with_the_client_secret(provider: FakeProvider) -> None:
    provider.token_header = {"alg": "HS256"}
    provider.signing_key = OctKey.import_key("a:secret")


def signed_with_the_public_key_as_a_secret(provider: FakeProvider) -> None:
    provider.token_header = {"alg": "HS256", "kid": "one"}
    public = provider.key.as_pem(private=False)
    # joserfc refuses a PEM as a secret, but not one with a misspelled header.
    provider.signing_key = OctKey.import_key(public.replace(b"PUBLIC KEY", b"PUBLIC  KEY"))


def signed_with_an_unpublished_key(provider: FakeProvider) -> None:
    provider.token_header = {"alg": "RS256", "kid": "two"}


def no_id_token(provider: FakeProvider) -> None:
    provider.responses["/token"] = JSONResponse({"access_token": "opaque", "token_type": "Bearer"})


def garbage(provider: FakeProvider) -> None:
    provider.responses["/token"] = JSONResponse({"id_token": "a.b.c"})


def code_refused(provider: FakeProvider) -> None:
    provider.responses["/token"] = JSONResponse({"error": "invalid_grant"}, 400)


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    "forge",
    [
        signed_with_another_key,
        unsigned,
        signed_with_the_client_secret,
        signed_with_the_public_key_as_a_secret,
        signed_with_an_unpublished_key,
        no_id_token,
        garbage,
        code_refused,
    ],
)
async def test_id_token_without_the_providers_signature_is_rejected(
    visitor: Visitor, forge: Callable[[FakeProvider], None]
) -> None:
    forge(visitor.provider)
    await visitor.check_rejected(await visitor.sign_in(), "could not verify")


async def test_provider_may_change_its_keys(visitor: Visitor) -> None:
    await visitor.sign_in()
    visitor.http.cookies.clear()
    key = ECKey.generate_key("P-256", {"kid": "two"})
    visitor.provider.signing_key = visitor.provider.published_key = key
    visitor.provider.token_header = {"alg": "ES256", "kid": "two"}
    assert (await visitor.sign_in()).status_code == 303


async def test_unknown_key_types_are_ignored(visitor: Visitor) -> None:
    unknown = {"kty": "AKP", "alg": "ML-DSA-44", "kid": "new", "pub": "AAAA"}
    keys = [unknown, {"kty": "RSA"}, visitor.provider.key.as_dict(private=False)]
    visitor.provider.responses["/jwks"] = JSONResponse({"keys": keys})
    assert (await visitor.sign_in()).status_code == 303


async def test_edwards_curve_key_is_accepted(visitor: Visitor) -> None:
    key = OKPKey.generate_key("Ed25519", {"kid": "two"})
    visitor.provider.signing_key = visitor.provider.published_key = key
    visitor.provider.token_header = {"alg": "Ed25519", "kid": "two"}
    assert (await visitor.sign_in()).status_code == 303
