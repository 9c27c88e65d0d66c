"""Run worker.py. A step of the store stops after its commit if there is a trap with its name.

The traps are empty files in the folder ``COMMIT_TRAPS``. A trap stops one step, and the id of the
step's request is written into the file.
"""

import asyncio
import os
import runpy
from pathlib import Path
from typing import Any

from smart_accounts.store.emails import EmailLedger
from smart_accounts.store.requests import Requests

TRAPS = Path(os.environ["COMMIT_TRAPS"])


def stop_after(owner: type, name: str) -> None:
    step = getattr(owner, name)

    async def stopping(store: Any, first: Any, *others: Any) -> Any:
        result = await step(store, first, *others)
        trap = TRAPS / name
        if trap.exists() and not trap.read_text():
            trap.write_text(getattr(first, "request_id", first))
            while trap.exists():
                await asyncio.sleep(0.1)
        return result

    setattr(owner, name, stopping)


for each in ("open", "activate", "close", "close_account"):
    stop_after(Requests, each)
stop_after(EmailLedger, "record")
runpy.run_path("worker.py", run_name="__main__")
