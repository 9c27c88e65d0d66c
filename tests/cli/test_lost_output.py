"""Standard output that is closed or full, or whose reader has exited."""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest
import typer

from smart_accounts.cli import output
from smart_accounts.cli.arguments import Json
from smart_accounts.cli.run import run
from smart_accounts.errors import Unavailable
from smart_accounts.temporal.process_exit import exit_process

# pytest sets sys.stdout before each test, so the tests replace it and not the fixtures.


@pytest.fixture
def without_reader() -> Iterator[TextIO]:
    read, write = os.pipe()
    os.close(read)
    with suppress(BrokenPipeError), os.fdopen(write, "w") as stream:
        yield stream


@pytest.fixture
def full_disk() -> Iterator[TextIO]:
    with suppress(OSError), Path("/dev/full").open("w") as stream:
        yield stream


@pytest.mark.parametrize("show", [output.show, output.show_json])
def test_reader_may_exit_early(
    show: Callable[[str], None], without_reader: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", without_reader)
    show("text " * 20_000)


@pytest.mark.parametrize("show", [output.show, output.show_json])
def test_output_that_is_lost_on_a_full_disk_is_an_error(
    show: Callable[[str], None], full_disk: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        show("text")


@pytest.mark.parametrize(
    ("error", "code"), [(Unavailable("Temporal is down."), 3), (OSError("The disk is full."), 70)]
)
def test_exit_code_is_kept_if_the_error_cannot_be_shown(
    error: Exception,
    code: int,
    full_disk: TextIO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = typer.Typer()

    @app.command()
    def fail(as_json: Json = False) -> None:
        raise error

    monkeypatch.chdir(tmp_path)  # it has no settings in a file
    monkeypatch.setattr(sys, "stdout", full_disk)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys, "argv", ["starter.py", "--json"])
    assert run(app) == code


@pytest.mark.parametrize("name", ["closed", "without_reader", "full_disk"])
def test_exit_status_is_kept(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream: TextIO | None = None
    if name != "closed":
        stream = request.getfixturevalue(name)
        assert stream
        stream.write("text")

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(logging, "shutdown", lambda: None)  # other tests still write to the log
    with pytest.raises(SystemExit) as ended:
        exit_process(3)
    assert ended.value.code == 3
