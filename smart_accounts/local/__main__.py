"""``python -m smart_accounts.local run``, ``… demo`` and ``… token [PERSON]``."""

import asyncio
import os
import shlex
import sys
from functools import partial
from pathlib import Path

from smart_accounts.errors import BadSetting, SmartAccountsError, Unavailable
from smart_accounts.local.access_token import UnknownPerson, access_token
from smart_accounts.local.configuration import HOST, ROOT, StackConfiguration, configure
from smart_accounts.local.demo import demo
from smart_accounts.local.people import PEOPLE
from smart_accounts.local.stack import supervise


async def run() -> None:
    """Run the stack until a signal stops it."""
    stack = configure(Path.cwd(), os.environ)

    async def announce_and_wait() -> None:
        print(_announcement(stack), flush=True)
        await asyncio.Event().wait()

    await supervise(stack, announce_and_wait)


def _announcement(stack: StackConfiguration) -> str:
    """Return the line that begins with ``ready``, and the next steps for a newcomer."""
    addresses = [f"web {stack.url('WEB_PORT')}", f"Temporal {stack.temporal_address}"]
    next_steps = ["Start a request:", _start_command(stack)]
    if stack.has_mailbox:
        mailbox = stack.url("MAILBOX_PORT")
        addresses += [f"mailbox {mailbox}", f"SMTP {HOST}:{stack.ports['SMTP_PORT']}"]
        next_steps.append(f"Read the emails, and accept with the link in one: {mailbox}")
    if stack.has_provider:
        addresses.append(f"identity provider {stack.url('OIDC_PORT')}")
        people = " or ".join(list(PEOPLE)[:2])
        next_steps.append(f"Sign in as {people}: {stack.url('WEB_PORT')}/sign-in")
    if stack.has_temporal:
        addresses.append(f"Temporal Web UI {stack.url('TEMPORAL_UI_PORT')}")
        next_steps.append(f"Watch the workflow: {stack.url('TEMPORAL_UI_PORT')}")
    next_steps.append(f"Data and logs are kept in {stack.data}. Press Ctrl-C to stop.")
    return "\n  ".join([f"ready: {', '.join(addresses)}", *next_steps])


def _start_command(stack: StackConfiguration) -> str:
    moved = stack.has_temporal and stack.temporal_address != f"{HOST}:7233"
    address = f"TEMPORAL_ADDRESS={stack.temporal_address} " if moved else ""
    program = shlex.join([os.path.relpath(sys.executable), os.path.relpath(ROOT / "starter.py")])
    return (
        f"  {address}{program} request \\\n"
        "      --account-name 'Acme Networks' --customer-email ada@acme.example \\\n"
        "      --requester-name 'Pat Lee' --requester-company 'Partner Ltd' \\\n"
        "      --requester-email pat@partner.example"
    )


async def token(person: str = next(iter(PEOPLE))) -> None:
    """Print an access token for the API, and nothing else."""
    print(await access_token(configure(Path.cwd(), os.environ), person))


def main() -> int:
    match sys.argv[1:]:
        case ["run"]:
            command = run
        case ["demo"]:
            command = demo
        case ["token"] | ["token", _]:
            command = partial(token, *sys.argv[2:])
        case _:
            print("usage: python -m smart_accounts.local run|demo|token [PERSON]", file=sys.stderr)
            return 2
    try:
        asyncio.run(command())
    except (BadSetting, UnknownPerson) as error:
        print(error, file=sys.stderr)
        return 2
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 3
    except (SmartAccountsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
