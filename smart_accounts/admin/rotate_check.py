"""``rotate-check``: which payload keys the open workflows still need."""

from collections import Counter

import typer

from smart_accounts.cli import output
from smart_accounts.cli.arguments import Json
from smart_accounts.cli.asynchronous import asynchronous
from smart_accounts.cli.exit_codes import ExitCode
from smart_accounts.settings import ClientSettings, load_client_settings
from smart_accounts.temporal.codec import PayloadCipher
from smart_accounts.temporal.connection import connect
from smart_accounts.temporal.needed_keys import count_open, needed_by_next_sweep, needed_keys


@asynchronous
async def rotate_check(as_json: Json = False) -> None:
    """
    Tell which keys of SMART_ACCOUNTS_PAYLOAD_KEYS the open workflows still need.

    It reads the history of each open workflow, and the result of the last sweep, which Temporal
    gives to the next one. The exit code is 1 if one of them needs a key that is not in the setting,
    or has data in clear although that is not allowed.
    """
    settings = load_client_settings()
    client = await connect()
    total, counts = 0, Counter[str | None]()
    with output.progress_bar(await count_open(client), hidden=as_json, label="Reading") as advance:
        async for needed in needed_keys(client):
            counts.update(needed)
            total += 1
            advance()
    counts.update(await needed_by_next_sweep(client))
    known = PayloadCipher(settings.encryption_keys).key_ids
    missing = sorted(key for key in counts if key is not None and key not in known)
    if as_json:
        keys = [{"id": key, "known": key in known, "open": counts[key]} for key in known + missing]
        output.show_json({"open": total, "in_clear": counts[None], "keys": keys})
    else:
        output.show(*_lines(settings, total, counts, known, missing))
    if missing or (counts[None] and not settings.allows_plaintext):
        raise typer.Exit(ExitCode.REJECTED)


def _lines(
    settings: ClientSettings,
    total: int,
    counts: Counter[str | None],
    known: list[str],
    missing: list[str],
) -> list[str]:
    lines = [f"Open workflows: {total}"]
    for key in known:
        use = "encrypts" if key == known[0] else "can be removed" if not counts[key] else "needed"
        lines.append(f"Key {key}: {counts[key]} ({use})")
    lines += [
        f"Key {key}: {counts[key]} (not in SMART_ACCOUNTS_PAYLOAD_KEYS; they wait for it)"
        for key in missing
    ]
    lines.append(f"In clear: {counts[None]}")
    if counts[None] and not settings.allows_plaintext:
        lines[-1] += " (they wait for SMART_ACCOUNTS_PAYLOAD_PLAINTEXT=allowed)"
    elif settings.payload_plaintext and not counts[None]:
        lines[-1] += " (SMART_ACCOUNTS_PAYLOAD_PLAINTEXT can be removed)"
    return lines
