"""What the client says before, or instead of, talking to Temporal."""

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


async def test_all_missing_fields_are_named_at_once(alone: Starter) -> None:
    ended = await alone("request")
    assert ended.code == 2
    assert ended.err.splitlines() == [
        "Bad input, nothing was sent.",
        "--account-name: is required",
        "--customer-email: is required",
        "--requester-email: is required",
        "--requester-name: is required",
        "--requester-company: is required",
    ]


async def test_one_message_for_each_bad_option(alone: Starter) -> None:
    ended = await alone(
        *GOOD,
        "--account-name=see www.acme.example",
        "--account-domain=co.uk",
        "--note-to-customer=" + "n" * 1025,
        "--user-email=bo@acme.example",
        "--user-email=bo@acme.example, evil@x.example",
        "--requester-email=pat",
        "--acceptance-window=P0D",
    )
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.splitlines() == [
        "Bad input, nothing was sent.",
        "--account-name: must not contain a web address",
        "--account-domain: must be a company's own domain, not a public suffix",
        "--note-to-customer: must have at most 1024 characters",
        "--user-email: entry 2 must be one email address, without a display name",
        "--requester-email: must be one email address, without a display name",
        "--acceptance-window: must be between PT1S and P365D",
    ]


async def test_bad_input_as_json(alone: Starter) -> None:
    ended = await alone(*GOOD, "--account-name=", "--json")
    assert (ended.code, ended.err) == (2, "")
    assert ended.json == {
        "error": {
            "kind": "bad-input",
            "message": "Bad input, nothing was sent.",
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
async def test_wrong_usage(alone: Starter, args: tuple[str, ...]) -> None:
    ended, as_json = await asyncio.gather(alone(*args), alone(*args, "--json"))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err
    assert (as_json.code, as_json.err) == (2, "")
    assert as_json.json["error"]["kind"] == "bad-input"
    assert as_json.json["error"]["message"]


@pytest.mark.parametrize(
    "args",
    [GOOD, ("status", "acme.example"), ("list",), ("accept", "acme.example")],
    ids=["request", "status", "list", "accept"],
)
async def test_nothing_listens(alone: Starter, args: tuple[str, ...]) -> None:
    began = time.monotonic()
    ended, as_json = await asyncio.gather(alone(*args), alone(*args, "--json"))
    assert time.monotonic() - began < 10  # 5 s, and the start of Python on a busy machine
    assert (ended.code, ended.out) == (3, "")
    assert len(ended.err.splitlines()) == 1
    assert (as_json.code, as_json.err) == (3, "")
    assert as_json.json["error"]["kind"] == "unavailable"


async def test_the_interpreter_does_not_finalize(alone: Starter, tmp_path: Path) -> None:
    """The SDK's threads crash about one in nine that do, and the exit code is lost."""
    told = "import atexit, sys; atexit.register(print, 'finalizing', file=sys.stderr)"
    (tmp_path / "sitecustomize.py").write_text(told)
    ended = await alone.in_a_process_of_its_own("list", PYTHONPATH=str(tmp_path))
    assert ended.code == 3
    assert "finalizing" not in ended.err


async def test_nothing_listens_for_an_import(alone: Starter, tmp_path: Path) -> None:
    file = tmp_path / "requests.csv"
    file.write_text(f"{HEADER}\n{CELLS}\n")
    ended = await alone("import", file)
    assert (ended.code, ended.out) == (3, "")
    assert len(ended.err.splitlines()) == 1


async def test_a_file_that_is_no_table_of_requests(alone: Starter, tmp_path: Path) -> None:
    file = tmp_path / "requests.csv"
    file.write_text("account_name,customer_email\nAcme Networks,ada@acme.example\n")
    ended = await alone("import", file)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "requests.csv lacks in its first row: requester_email, requester_name, requester_company.\n"
    )


async def test_help_fits_a_terminal(alone: Starter) -> None:
    commands = ["request", "status", "list", "accept", "decline", "import"]
    for ended in await asyncio.gather(*(alone(command, "--help") for command in commands)):
        assert (ended.code, ended.err) == (0, "")
        assert "--json" in ended.out
        assert max(map(len, ended.out.splitlines())) <= 80
