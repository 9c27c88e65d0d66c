"""Receivers that use the reference libraries, and the examples in docs/webhooks.md."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smart_accounts.store.request_view import ChangedRequest
from smart_accounts.webhooks.addresses import AddressRules
from smart_accounts.webhooks.sender import WebhookSender
from smart_accounts.webhooks.signing import new_secret, sign
from tests.support.documents import code_block
from tests.support.npm import find_program, link_packages
from tests.support.ports import find_free_port

pytestmark = pytest.mark.server

DOCUMENT = "docs/webhooks.md"
PACKAGES = Path(__file__).parent / "typescript"
LOCAL = AddressRules(allow_loopback=True)
EVENT = json.dumps({"type": "request.pending", "id": "e1", "data": {"account_name": "Zoë"}})
EXAMPLES = {
    "python": ("receiver.py", sys.executable),
    "typescript": ("receiver.mjs", "node"),
}


@asynccontextmanager
async def running(example: str, secret: str, folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """Run a receiver of the document. Yields its URL and the file with its output."""
    name, program = EXAMPLES[example]
    port = find_free_port()
    (folder / name).write_text(code_block(DOCUMENT, example).replace("9000", str(port)))
    output = folder / "output"
    with output.open("wb") as out, (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            find_program(program) if program == "node" else program,
            name,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret},
            stdout=out,
            stderr=log,
        )
    try:
        while True:
            assert process.returncode is None, (folder / "log").read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                break
        yield f"http://127.0.0.1:{port}/webhooks", output
    finally:
        process.terminate()
        await process.wait()


def forgeries(secret: str) -> list[tuple[dict[str, str], str]]:
    """Return headers and bodies that a receiver must reject."""
    now = datetime.now(UTC)
    genuine = sign("e1", now, EVENT, [secret])
    old, new = (sign("e1", now + timedelta(minutes=m), EVENT, [secret]) for m in (-6, 6))
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return [
        (genuine, EVENT.replace("pending", "active")),
        (genuine | {"webhook-id": "e2"}, EVENT),
        (genuine | {"webhook-timestamp": str(int(now.timestamp()) + 1)}, EVENT),
        (sign("e1", now, EVENT, [new_secret()]), EVENT),
        (old, EVENT),
        (new, EVENT),
        *(
            (genuine | {name: value}, EVENT)
            for name in names
            for value in ("", "x", "v1,", "v1,a v2")
        ),
    ]


@pytest.mark.parametrize("example", EXAMPLES)
async def test_receivers_verify_each_delivery(example: str, tmp_path: Path) -> None:
    if example == "typescript":
        link_packages(PACKAGES, tmp_path)
    secret, next_secret = new_secret(), new_secret()
    sender = WebhookSender()
    async with running(example, secret, tmp_path) as (url, output):
        for number, secrets in enumerate([[secret], [next_secret, secret]]):
            body = EVENT.replace("e1", f"e{number}")
            headers = sign(f"e{number}", datetime.now(UTC), body, secrets)
            attempt = await sender.send(url, headers, body, LOCAL)
            assert (attempt.status_code, attempt.error) == (204, None)
        for headers, body in forgeries(secret):
            assert (await sender.send(url, headers, body, LOCAL)).status_code == 400, headers
        assert output.read_text() == "request.pending e0\nrequest.pending e1\n"


async def test_shell(tmp_path: Path) -> None:
    secret = new_secret()
    (tmp_path / "verify.sh").write_text(code_block(DOCUMENT, "shell"))

    async def said(headers: dict[str, str], body: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            "sh",
            "verify.sh",
            *headers.values(),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate(body.encode())
        return process.returncode, output.decode().strip()

    now = datetime.now(UTC)
    for secrets in ([secret], [new_secret(), secret]):
        assert await said(sign("e1", now, EVENT, secrets), EVENT) == (0, "genuine")
    harmful = {"webhook-timestamp": "a[$(touch harm)]"}, {"webhook-signature": "* $(touch harm)"}
    genuine = sign("e1", now, EVENT, [secret])
    for headers, body in [*forgeries(secret), *((genuine | each, EVENT) for each in harmful)]:
        status, output = await said(headers, body)
        assert status == 1, headers
        assert output in ("not genuine", "bad timestamp", "too old or too new")
    assert [path.name for path in tmp_path.iterdir()] == ["verify.sh"]


def test_event_in_the_document() -> None:
    event = json.loads(code_block(DOCUMENT, "event"))
    assert event["data"].keys() == ChangedRequest.model_fields.keys()
    assert ChangedRequest.model_validate(event["data"]).model_dump(mode="json") == event["data"]
