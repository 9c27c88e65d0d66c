"""worker.py, in which a step of the store stops after its commit if it finds a trap of its name.

The traps are empty files in the folder ``COMMITS``; each takes one step and gets its request's id.
"""

import asyncio
import os
import runpy
from pathlib import Path
from typing import Any

from smart_accounts.store.emails import EmailLedger
from smart_accounts.store.store import AccountStore

COMMITS = Path(os.environ["COMMITS"])


def stop_after(owner: type, name: str) -> None:
    step = getattr(owner, name)

    async def stopping(store: Any, first: Any, *others: Any) -> Any:
        result = await step(store, first, *others)
        trap = COMMITS / name
        if trap.exists() and not trap.read_text():
            trap.write_text(getattr(first, "request_id", first))
            while trap.exists():
                await asyncio.sleep(0.1)
        return result

    setattr(owner, name, stopping)


for each in ("open_request", "activate", "close"):
    stop_after(AccountStore, each)
stop_after(EmailLedger, "record")
runpy.run_path("worker.py", run_name="__main__")
