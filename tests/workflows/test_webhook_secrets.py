"""A worker that starts with a new secret key keeps the signing secrets of webhooks readable."""

from typing import Any

from pydantic import SecretStr
from temporalio.testing import WorkflowEnvironment

from smart_accounts.settings import Settings
from smart_accounts.store.store import AccountStore
from smart_accounts.webhooks.signing import new_secret, seal, unseal
from tests.support.scenario import Scenario
from tests.support.webhooks import add_endpoint

OLD_KEY = "an-older-key-for-tests-that-is-long-enough"


async def test_old_key_can_be_removed(
    env: WorkflowEnvironment, store: AccountStore, settings: Settings, example: dict[str, Any]
) -> None:
    secret = new_secret()
    endpoint = await add_endpoint(store, sealed_secret=seal(secret, [OLD_KEY]))
    both = (*settings.secret_keys, SecretStr(OLD_KEY))
    rotated = settings.model_copy(update={"secret_keys": both})
    async with Scenario(env, store, rotated, example).worker(cached=10):
        found = await store.webhooks.find(endpoint.id)
    assert found
    assert unseal([found.sealed_secret], settings.signing_keys) == [secret]
