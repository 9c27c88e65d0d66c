"""Commands that end with an error before they reach Temporal."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Starter

pytestmark = pytest.mark.server

HEADER = "account_name,customer_email,requester_email,requester_name,requester_company"
CELLS = "Acme Networks,ada@acme.example,pat@partner.example,Pat Lee,Partner Ltd"
GOOD = (
    "request",
    "--account-name=Acme Networks",
    "--customer-email=ada@acme.example",
    "--requester-email=pat@partner.example",
    "--requester-name=Pat Lee",
    "--requester-company=Partner Ltd",
)


async def test_all_missing_fields_are_named_at_once(offline_starter: Starter) -> None:
    finished = await offline_starter("request")
    assert finished.code == 2
    assert finished.err.splitlines() == [
        "Bad input. Nothing was sent.",
        "--account-name: is required",
        "--customer-email: is required",
        "--requester-email: is required",
        "--requester-name: is required",
        "--requester-company: is required",
    ]


async def test_one_message_per_bad_option(offline_starter: Starter) -> None:
    finished = await offline_starter(
        *GOOD,
        "--account-name=see www.acme.example",
        "--account-domain=co.uk",
        "--note-to-customer=" + "n" * 1025,
        "--user-email=bo@acme.example",
        "--user-email=bo@acme.example, evil@x.example",
        "--requester-email=pat",
        "--acceptance-window=P0D",
    )
    assert finished.code == 2
    assert finished.out == ""
    assert finished.err.splitlines() == [
        "Bad input. Nothing was sent.",
        "--account-name: must not contain a web address",
        "--account-domain: must be a company's own domain, not a public suffix",
        "--note-to-customer: must have at most 1024 characters",
        "--user-email: entry 2 must be one email address, without a display name",
        "--requester-email: must be one email address, without a display name",
        "--acceptance-window: must be between PT1S and P365D",
    ]


async def test_bad_input_as_json(offline_starter: Starter) -> None:
    finished = await offline_starter(*GOOD, "--account-name=", "--json")
    assert (finished.code, finished.err) == (2, "")
    assert finished.json == {
        "error": {
            "kind": "bad-input",
            "message": "Bad input. Nothing was sent.",
            "fields": [{"field": "account_name", "message": "must not be empty"}],
        }
    }


@pytest.mark.parametrize(
    "args",
    [
        ("status", "acme"),
        ("status", "smart-account-co.uk"),
        ("accept", "a/b.example"),
        ("decline",),
        ("list", "--status=open"),
        ("import", "no-such-file.csv"),
        ("request", "--no-such-option"),
        ("no-such-command",),
    ],
    ids=" ".join,
)
async def test_wrong_usage(offline_starter: Starter, args: tuple[str, ...]) -> None:
    finished, as_json = await asyncio.gather(
        offline_starter(*args), offline_starter(*args, "--json")
    )
    assert (finished.code, finished.out) == (2, "")
    assert finished.err
    assert (as_json.code, as_json.err) == (2, "")
    assert as_json.json["error"]["kind"] == "bad-input"
    assert as_json.json["error"]["message"]


@pytest.mark.parametrize(
    "args",
    [GOOD, ("status", "acme.example"), ("list",), ("accept", "acme.example")],
    ids=["request", "status", "list", "accept"],
)
async def test_commands_without_a_server(offline_starter: Starter, args: tuple[str, ...]) -> None:
    began = time.monotonic()
    finished, as_json = await asyncio.gather(
        offline_starter(*args), offline_starter(*args, "--json")
    )
    # Promised are 5 s. Python takes more time to start on a busy machine.
    assert time.monotonic() - began < 10
    assert (finished.code, finished.out) == (3, "")
    assert len(finished.err.splitlines()) == 1
    assert (as_json.code, as_json.err) == (3, "")
    assert as_json.json["error"]["kind"] == "unavailable"


async def test_interpreter_is_not_finalized(offline_starter: Starter, tmp_path: Path) -> None:
    """The SDK's threads crash about one in nine interpreters that finalize."""
    hook = "import atexit, sys; atexit.register(print, 'finalizing', file=sys.stderr)"
    (tmp_path / "sitecustomize.py").write_text(hook)
    finished = await offline_starter.run_in_new_interpreter("list", PYTHONPATH=str(tmp_path))
    assert finished.code == 3
    assert "finalizing" not in finished.err


async def test_import_without_a_server(offline_starter: Starter, tmp_path: Path) -> None:
    file = tmp_path / "requests.csv"
    file.write_text(f"{HEADER}\n{CELLS}\n")
    finished = await offline_starter("import", file)
    assert (finished.code, finished.out) == (3, "")
    assert len(finished.err.splitlines()) == 1


async def test_file_without_required_columns(offline_starter: Starter, tmp_path: Path) -> None:
    file = tmp_path / "requests.csv"
    file.write_text("account_name,customer_email\nAcme Networks,ada@acme.example\n")
    finished = await offline_starter("import", file)
    assert (finished.code, finished.out) == (2, "")
    assert finished.err == (
        "The first row of requests.csv is missing:"
        " requester_email, requester_name, requester_company.\n"
    )


async def test_help_fits_80_columns(offline_starter: Starter) -> None:
    commands = ["request", "status", "list", "accept", "decline", "import"]
    for finished in await asyncio.gather(
        *(offline_starter(command, "--help") for command in commands)
    ):
        assert (finished.code, finished.err) == (0, "")
        assert "--json" in finished.out
        assert max(map(len, finished.out.splitlines())) <= 80
