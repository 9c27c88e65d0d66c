"""The README's blocks, run as they stand there; only the address is this test's."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found
    return found.group(1)


def starter_block() -> str:
    found = re.search(r"```sh\n(\.venv/bin/python starter\.py request .*?)```", README, re.DOTALL)
    assert found
    return found.group(1)


async def run(service: Any, *command: str, may_crash: bool = False) -> str:
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


async def test_starter_block(service: Any) -> None:
    await service.worker()
    script = starter_block().replace(".venv/bin/python", sys.executable)
    assert "pending" in await run(service, "bash", "-euc", script)
    await service.mail.wait_for("activation", "ada@acme.example")


async def test_cli_block(service: Any) -> None:
    await service.worker()
    await run(service, "bash", "-euc", block("cli"))
    result = await service.client.get_workflow_handle("smart-account-acme.example").result()
    assert result["status"] == "active"


async def test_python_block(service: Any) -> None:
    await service.worker()
    script = block("python").replace("127.0.0.1:7233", service.server.address)
    # The SDK's threads crash one in nine interpreters that finalize under them.
    printed = await run(service, sys.executable, "-c", script, may_crash=True)
    assert printed in {"requested\n", "pending\n"}  # the look may come before the checks' end
    await service.mail.wait_for("activation", "eve@borealis.example")
