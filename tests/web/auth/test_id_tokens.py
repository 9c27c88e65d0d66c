"""ID tokens that lie."""

from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from starlette.responses import JSONResponse

LIES: list[dict[str, Any]] = [
    {"iss": "https://evil.example"},
    {"iss": None},
    {"aud": "another client"},
    {"aud": None},
    {"aud": ["us", "another client"]},  # without azp
    {"aud": ["us", "another client"], "azp": "another client"},
    {"azp": "another client"},
    {"nonce": "of another sign-in"},
    {"nonce": None},
    {"exp": 1},
    {"exp": None},
    {"iat": None},
    {"iat": 4_000_000_000},
    {"sub": None},
    {"sub": 5},
]


@pytest.mark.parametrize("lie", LIES, ids=str)
async def test_an_id_token_that_is_not_for_us_and_now_is_refused(
    visitor: Any, lie: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    visitor.provider.token |= lie
    visitor.stays_out(await visitor.signs_in(), "could not make sure")
    assert "sign-in failed: token" in caplog.text
    assert "pat@" not in caplog.text


async def test_several_audiences_are_fine_with_us_as_the_authorized_party(visitor: Any) -> None:
    visitor.provider.token |= {"aud": ["us", "another client"], "azp": "us"}
    assert (await visitor.signs_in()).status_code == 303


async def forged_by_another_key(provider: Any) -> None:
    provider.signing = RSAKey.generate_key(2048)


async def unsigned(provider: Any) -> None:
    provider.header = {"alg": "none"}


async def signed_with_the_client_secret(provider: Any) -> None:
    provider.header = {"alg": "HS256"}
    provider.signing = OctKey.import_key("a:secret")


async def signed_with_the_public_key_as_a_secret(provider: Any) -> None:
    provider.header, public = {"alg": "HS256", "kid": "one"}, provider.key.as_pem(private=False)
    provider.signing = OctKey.import_key(public.replace(b"PUBLIC KEY", b"PUBLIC  KEY"))


async def signed_by_an_unpublished_key(provider: Any) -> None:
    provider.header = {"alg": "RS256", "kid": "two"}


async def no_id_token(provider: Any) -> None:
    provider.answers["/token"] = JSONResponse({"access_token": "opaque", "token_type": "Bearer"})


async def garbage(provider: Any) -> None:
    provider.answers["/token"] = JSONResponse({"id_token": "a.b.c"})


async def code_refused(provider: Any) -> None:
    provider.answers["/token"] = JSONResponse({"error": "invalid_grant"}, 400)


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    "forge",
    [
        forged_by_another_key,
        unsigned,
        signed_with_the_client_secret,
        signed_with_the_public_key_as_a_secret,
        signed_by_an_unpublished_key,
        no_id_token,
        garbage,
        code_refused,
    ],
)
async def test_an_id_token_that_the_provider_did_not_sign_is_refused(
    visitor: Any, forge: Any
) -> None:
    await forge(visitor.provider)
    visitor.stays_out(await visitor.signs_in(), "could not make sure")


async def test_the_provider_may_change_its_keys(visitor: Any) -> None:
    await visitor.signs_in()
    visitor.http.cookies.clear()
    key = ECKey.generate_key("P-256", {"kid": "two"})
    visitor.provider.signing = visitor.provider.published = key
    visitor.provider.header = {"alg": "ES256", "kid": "two"}
    assert (await visitor.signs_in()).status_code == 303


async def test_a_key_that_we_do_not_know_spoils_no_other(visitor: Any) -> None:
    odd = {"kty": "AKP", "alg": "ML-DSA-44", "kid": "odd", "pub": "AAAA"}
    keys = [odd, {"kty": "RSA"}, visitor.provider.key.as_dict(private=False)]
    visitor.provider.answers["/jwks"] = JSONResponse({"keys": keys})
    assert (await visitor.signs_in()).status_code == 303


async def test_an_edwards_curve_key_will_do(visitor: Any) -> None:
    key = OKPKey.generate_key("Ed25519", {"kid": "two"})
    visitor.provider.signing = visitor.provider.published = key
    visitor.provider.header = {"alg": "Ed25519", "kid": "two"}
    assert (await visitor.signs_in()).status_code == 303
