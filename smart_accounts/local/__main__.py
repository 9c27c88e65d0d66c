"""``python -m smart_accounts.local run``, ``… demo`` and ``… token [PERSON]``."""

import asyncio
import os
import shlex
import sys
from functools import partial
from pathlib import Path

from smart_accounts.errors import BadSetting, SmartAccountsError, Unavailable
from smart_accounts.local.access_token import UnknownPerson, access_token
from smart_accounts.local.configuration import HOST, ROOT, Plan, make_plan
from smart_accounts.local.demo import demo
from smart_accounts.local.people import PEOPLE
from smart_accounts.local.stack import supervise


async def run() -> None:
    """Keep the stack running until a signal ends it."""
    plan = make_plan(Path.cwd(), os.environ)

    async def announce_and_wait() -> None:
        print(_announcement(plan), flush=True)
        await asyncio.Event().wait()

    await supervise(plan, announce_and_wait)


def _announcement(plan: Plan) -> str:
    """The line that begins with ``ready``, and what a newcomer does next."""
    addresses = [f"web {plan.url('WEB_PORT')}", f"Temporal {plan.temporal_address}"]
    following = ["Start a request:", _start_command(plan)]
    if plan.has_mailbox:
        mailbox = plan.url("MAILBOX_PORT")
        addresses += [f"mailbox {mailbox}", f"SMTP {HOST}:{plan.ports['SMTP_PORT']}"]
        following.append(f"Read the emails, and accept by the link in one: {mailbox}")
    if plan.has_provider:
        addresses.append(f"identity provider {plan.url('OIDC_PORT')}")
        people = " or ".join(list(PEOPLE)[:2])
        following.append(f"Sign in as {people}: {plan.url('WEB_PORT')}/sign-in")
    if plan.has_temporal:
        addresses.append(f"Temporal Web UI {plan.url('TEMPORAL_UI_PORT')}")
        following.append(f"Watch the workflow: {plan.url('TEMPORAL_UI_PORT')}")
    following.append(f"Ctrl-C stops it all. Data and logs are kept in {plan.data}")
    return "\n  ".join([f"ready: {', '.join(addresses)}", *following])


def _start_command(plan: Plan) -> str:
    moved = plan.has_temporal and plan.temporal_address != f"{HOST}:7233"
    address = f"TEMPORAL_ADDRESS={plan.temporal_address} " if moved else ""
    program = shlex.join([os.path.relpath(sys.executable), os.path.relpath(ROOT / "starter.py")])
    return (
        f"  {address}{program} request \\\n"
        "      --account-name 'Acme Networks' --customer-email ada@acme.example \\\n"
        "      --requester-name 'Pat Lee' --requester-company 'Partner Ltd' \\\n"
        "      --requester-email pat@partner.example"
    )


async def token(person: str = next(iter(PEOPLE))) -> None:
    """Print an access token for the API, and nothing else."""
    print(await access_token(make_plan(Path.cwd(), os.environ), person))


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
