"""Signatures that the reference library verifies, and secrets that the database does not show."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta, timezone
from unittest.mock import AsyncMock, Mock

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from temporalio.testing import ActivityEnvironment

from activities import sweep
from activities.sweep import SweepActivities
from smart_accounts.contract.steps import Sweep
from smart_accounts.errors import Unavailable
from smart_accounts.store.store import AccountStore
from smart_accounts.webhooks.signing import (
    SecretLost,
    new_secret,
    seal,
    sealed_again,
    sign,
    unseal,
)
from tests.support.keys import KEY
from tests.support.webhooks import add_endpoint

OTHER_KEY = "another-key-for-tests-that-is-long-enough-too"
BODY = '{"specversion": "1.0", "id": "e1", "name": "Zoë"}'


def test_reference_library_verifies() -> None:
    secret = new_secret()
    for zone in (UTC, timezone(timedelta(hours=9))):
        headers = sign("e1", datetime.now(zone), BODY, [secret])
        assert Webhook(secret).verify(BODY.encode(), headers)["name"] == "Zoë"
    for changed in (
        {"webhook-id": "e2"},
        {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)},
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(BODY, headers | changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY.replace("Zoë", "Zoe"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


def test_known_signature() -> None:
    """The one of the specification of Standard Webhooks."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, '{"test": 2432232314}', [secret])
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_both_secrets_verify_during_the_overlap() -> None:
    secrets = [new_secret(), new_secret()]
    headers = sign("e1", datetime.now(UTC), BODY, secrets)
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in secrets:
        Webhook(secret).verify(BODY, headers)


def test_secrets_are_random() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(base64.b64decode(secret.removeprefix("whsec_"))) for secret in secrets} == {32}


def test_secrets_are_sealed() -> None:
    secret = new_secret()
    sealed = seal(secret, [KEY, OTHER_KEY])
    assert secret.removeprefix("whsec_") not in sealed
    assert seal(secret, [KEY]) != sealed
    for keys in ([KEY], [OTHER_KEY, KEY]):
        assert unseal([sealed], keys) == [secret]


def test_removed_key() -> None:
    old, new = new_secret(), new_secret()
    sealed_old, sealed_new = seal(old, [OTHER_KEY]), seal(new, [KEY])
    assert unseal([sealed_new, sealed_old], [KEY, OTHER_KEY]) == [new, old]
    assert unseal([sealed_new, sealed_old], [KEY]) == [new]  # after a rotation
    for sealed in (sealed_old, "", "damaged", sealed_new[:-3]):
        with pytest.raises(SecretLost, match=r"Rotate the secret\.$"):
            unseal([sealed], [KEY])


async def test_secrets_are_sealed_again_with_the_newest_key(store: AccountStore) -> None:
    both, lost = [KEY, OTHER_KEY], "another-key-that-was-removed-long-ago-already"
    secrets = [new_secret() for _ in range(3)]
    sealed = [seal(secrets[0], [OTHER_KEY]), seal(secrets[1], [KEY]), seal(secrets[2], [lost])]
    endpoints = [await add_endpoint(store, sealed_secret=each) for each in sealed]
    until = datetime.now(UTC) + timedelta(days=1)
    newest = new_secret()
    await store.webhooks.rotate_secret(endpoints[0].id, seal(newest, [OTHER_KEY]), until)
    for _ in range(2):
        await store.webhook_secrets.replace(lambda each: sealed_again(each, both))
        found = [await store.webhooks.find(each.id) for each in endpoints]
        first, second, third = (each for each in found if each)
        assert first.previous_sealed_secret
        both_secrets = [first.sealed_secret, first.previous_sealed_secret]
        assert unseal(both_secrets, [KEY]) == [newest, secrets[0]]
        assert (second.sealed_secret, third.sealed_secret) == (sealed[1], sealed[2])


async def test_each_sweep_seals_secrets_again(
    store: AccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web process that was restarted after the workers has used the old key until then."""
    down = Mock(return_value=Mock(run=AsyncMock(side_effect=Unavailable)))
    monkeypatch.setattr(sweep, "Sweeper", down)  # the sweep itself must not be needed
    activities = SweepActivities(Mock(), store, [KEY, OTHER_KEY])
    secret = new_secret()
    endpoint = await add_endpoint(store, sealed_secret=seal(secret, [OTHER_KEY, KEY]))
    with pytest.raises(Unavailable):
        await ActivityEnvironment().run(activities.sweep, Sweep())
    found = await store.webhooks.find(endpoint.id)
    assert found
    assert unseal([found.sealed_secret], [KEY]) == [secret]


async def test_many_secrets_delay_no_other_task(store: AccountStore) -> None:
    for number in range(3):
        await add_endpoint(store, sealed_secret=f"sealed {number}")
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other, seen = asyncio.create_task(take_turns()), set()
    await store.webhook_secrets.replace(lambda _: seen.add(turns))
    other.cancel()
    assert len(seen) == 3
