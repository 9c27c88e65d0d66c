"""Servers that accept a call and never respond: nobody waits for long, and the message is true."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client

from smart_accounts.errors import NoResponse
from smart_accounts.temporal import client
from smart_accounts.temporal.client import RequestClient


class Silent:
    """A workflow whose queries wait for a worker."""

    async def query(self, *_: Any, **__: Any) -> None:
        await asyncio.Event().wait()


async def test_status_without_a_worker_does_not_blame_temporal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "QUERY_TIMEOUT", timedelta())
    silent = SimpleNamespace(get_workflow_handle=lambda *_, **__: Silent())
    with pytest.raises(NoResponse, match="Temporal is down, or no worker runs"):
        await RequestClient(cast(Client, silent)).status("smart-account-acme.example")
