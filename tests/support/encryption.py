"""A Temporal server whose file can be searched, and programs with any payload keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle

from smart_accounts.contract.messages import EmailState, SmartAccountRequest, Status
from smart_accounts.settings import Settings
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.codec import client_data_converter
from smart_accounts.temporal.guard import worker_data_converter
from smart_accounts.temporal.records import Started
from tests.support.mail_server import MailServer
from tests.support.patient_client import PatientClient
from tests.support.temporal_server import DevServer
from tests.support.web_settings import web_settings
from worker import run_worker

PUBLIC_URL = "https://accounts.example"


@dataclass
class World:
    """A Temporal server with its file, a store and a mail server. Programs come with any keys."""

    server: DevServer
    store: AccountStore
    mail: MailServer
    file: Path

    def settings(self, *keys: str, plaintext: bool = False) -> Settings:
        return web_settings(
            PUBLIC_URL,
            payload_keys=",".join(keys),
            payload_plaintext="allowed" if plaintext else None,
            smtp_port=self.mail.port,
            smtp_tls="none",
        )

    async def connect(self, *keys: str, plaintext: bool = False) -> Client:
        converter = client_data_converter(self.settings(*keys, plaintext=plaintext))
        return await Client.connect(self.server.address, data_converter=converter)

    async def client(self, *keys: str, plaintext: bool = False) -> PatientClient:
        return PatientClient(await self.connect(*keys, plaintext=plaintext))

    @asynccontextmanager
    async def worker(self, *keys: str, plaintext: bool = False) -> AsyncIterator[None]:
        settings = self.settings(*keys, plaintext=plaintext)
        client = await Client.connect(
            self.server.address, data_converter=worker_data_converter(settings)
        )
        async with run_worker(client, settings, self.store):
            yield

    def words_in_clear(self, words: list[str]) -> set[str]:
        """Return those of the words that Temporal's database has in clear."""
        files = self.file.parent.glob(f"{self.file.name}*")
        content = b"".join(file.read_bytes() for file in files).lower()
        return {word for word in words if word.encode() in content}


def request_for(domain: str, word: str = "heron") -> SmartAccountRequest:
    return SmartAccountRequest.model_validate(
        {
            "account_name": f"{word}01",
            "customer_email": f"{word}02@{domain}",
            "note_to_customer": f"{word}03",
            "user_emails": [f"{word}04@{domain}"],
            "note_to_added_users": f"{word}05",
            "requester": {
                "email": f"{word}06@partner.example",
                "name": f"{word}07",
                "company": f"{word}08",
            },
        }
    )


async def until(client: PatientClient, started: Started, status: Status, sent: int = 0) -> None:
    """Wait until the request has this status and has sent so many emails."""
    async with asyncio.timeout(60):
        while True:
            now = await client.status(started.workflow_id, run_id=started.request_id)
            done = [email for email in now.emails if email.state == EmailState.SENT]
            if now.status == status and len(done) >= sent:
                return
            await asyncio.sleep(0.05)


def handle_of(client: PatientClient, started: Started) -> WorkflowHandle[Any, Any]:
    return client._client.get_workflow_handle(started.workflow_id, run_id=started.request_id)


async def end_of(client: PatientClient, *requests: Started) -> list[str]:
    """Wait until the workflows have ended, and return their results."""
    async with asyncio.timeout(60):
        return [(await handle_of(client, each).result())["status"] for each in requests]
