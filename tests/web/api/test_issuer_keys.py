"""How the API fetches the issuer's keys, and what it does while the issuer is down."""

import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from smart_accounts.web.auth import issuer as issuer_keys
from tests.support.api import Api
from tests.support.issuer import CONFIGURATION, Issuer

REQUESTS = "/api/v1/requests"


def token_with_unknown_key(issuer: Issuer, kid: str) -> str:
    key = RSAKey.generate_key(2048, {"kid": kid})
    return jwt.encode({"alg": "RS256", "kid": kid}, issuer.claims(), key)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock by which the API keeps the issuer's keys."""
    clock = Clock()
    monkeypatch.setattr(issuer_keys, "time", clock)
    return clock


async def test_keys_are_fetched_once_per_hour(api: Api, clock: Clock) -> None:
    for hours in range(1, 3):
        for _ in range(3):
            assert (await api.http.get(REQUESTS)).status_code == 200
        assert len(api.issuer.requested_paths) == hours * 2
        clock.now += 3601


async def test_new_key_is_found_and_unknown_keys_cause_no_fetch(api: Api, clock: Clock) -> None:
    assert (await api.http.get(REQUESTS)).status_code == 200
    for number in range(20):  # soon after the last fetch
        hostile = token_with_unknown_key(api.issuer, f"junk-{number}")
        response = await api.http.get(REQUESTS, headers={"Authorization": f"Bearer {hostile}"})
        assert response.status_code == 401
    assert len(api.issuer.requested_paths) == 2
    api.issuer.keys = [RSAKey.generate_key(2048, {"kid": "second"})]
    rotated = {"Authorization": f"Bearer {api.issuer.token({'kid': 'second'})}"}
    assert (await api.http.get(REQUESTS, headers=rotated)).status_code == 401
    clock.now += 11
    assert (await api.http.get(REQUESTS, headers=rotated)).status_code == 200
    assert (await api.http.get(REQUESTS)).status_code == 401  # the old key is gone
    assert len(api.issuer.requested_paths) == 4


async def test_issuer_is_down(api: Api, clock: Clock) -> None:
    token = api.issuer.headers()
    api.issuer.close()
    response = await api.http.get(REQUESTS, headers=token)
    assert (response.status_code, response.headers["retry-after"]) == (503, "10")


async def test_known_keys_work_during_an_outage(api: Api, clock: Clock) -> None:
    assert (await api.http.get(REQUESTS)).status_code == 200
    unknown = {"Authorization": f"Bearer {token_with_unknown_key(api.issuer, 'new')}"}
    api.issuer.close()
    for _ in range(2):
        clock.now += 3601
        for _ in range(2):
            assert (await api.http.get(REQUESTS)).status_code == 200
            assert (await api.http.get(REQUESTS, headers=unknown)).status_code == 503


async def test_failed_fetch_of_the_keys_is_repeated_soon(api: Api, clock: Clock) -> None:
    headers = api.issuer.headers()
    assert (await api.http.get(REQUESTS, headers=headers)).status_code == 200
    api.issuer.responses[CONFIGURATION] = {}
    clock.now += 3601
    for _ in range(2):
        assert (await api.http.get(REQUESTS, headers=headers)).status_code == 200
    assert len(api.issuer.requested_paths) == 3, "one failed fetch, then a pause"
    api.issuer.responses.clear()
    api.issuer.keys = [RSAKey.generate_key(2048, {"kid": "second"})]
    clock.now += 11
    assert (await api.http.get(REQUESTS, headers=headers)).status_code == 401
    assert len(api.issuer.requested_paths) == 5


async def test_silent_issuer_costs_two_seconds_once(api: Api) -> None:
    api.issuer.response_delay = 3
    began = time.monotonic()
    for _ in range(5):
        assert (await api.http.get(REQUESTS)).status_code == 503
    assert issuer_keys.CACHE_TIMEOUT_SECONDS <= 2
    assert time.monotonic() - began < 6  # two seconds for each call would be ten


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"keys": {}},
        {"keys": []},
        {"keys": [{"kty": "RSA"}, 7, {"kty": "new"}]},
    ],
)
async def test_invalid_response_of_the_issuer_is_an_outage(
    api: Api, changes: dict[str, Any]
) -> None:
    document = api.issuer.configuration() | api.issuer.jwks() | changes
    api.issuer.responses = {CONFIGURATION: document, "/keys": document}
    assert (await api.http.get(REQUESTS)).status_code == 503
