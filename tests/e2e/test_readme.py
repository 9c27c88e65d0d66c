"""Run the README's code blocks as they are, but with the address of the test's own server."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.documents import ROOT, code_block
from tests.support.service import Service

README = (ROOT / "README.md").read_text()


def starter_block() -> str:
    found = re.search(r"```sh\n(\.venv/bin/python starter\.py request .*?)```", README, re.DOTALL)
    assert found
    return found.group(1)


async def run(service: Service, *command: str, may_crash: bool = False) -> str:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TEMPORAL_ADDRESS": service.server.address,
    }
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            command, env=environment, cwd=ROOT, text=True, capture_output=True, check=False
        )
    )
    crashed = may_crash and done.returncode in (-signal.SIGSEGV, -signal.SIGABRT)
    assert done.returncode == 0 or crashed, done.stderr
    return done.stdout


async def test_starter_block(service: Service) -> None:
    await service.start_worker()
    script = starter_block().replace(".venv/bin/python", sys.executable)
    assert "pending" in await run(service, "bash", "-euc", script)
    await service.mail.wait_for("activation", "ada@acme.example")


async def test_cli_block(service: Service) -> None:
    await service.start_worker()
    await run(service, "bash", "-euc", code_block("README.md", "cli"))
    result = await service.temporal.get_workflow_handle("smart-account-acme.example").result()
    assert result["status"] == "active"


async def test_python_block(service: Service) -> None:
    await service.start_worker()
    script = code_block("README.md", "python").replace("127.0.0.1:7233", service.server.address)
    # The SDK's threads crash one in nine interpreters at exit.
    printed = await run(service, sys.executable, "-c", script, may_crash=True)
    # The query may arrive before the system checks have finished.
    assert printed in {"requested\n", "pending\n"}
    await service.mail.wait_for("activation", "eve@borealis.example")
