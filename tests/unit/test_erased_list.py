"""The list of erased mailboxes, which is a file."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smart_accounts.admin.erased_list import ErasedList
from smart_accounts.errors import BadSetting
from tests.support.keys import KEY

ADA = "ada@acme.example"


def test_list_survives_a_crash_and_a_new_key(tmp_path: Path) -> None:
    path = tmp_path / "erased.txt"
    ErasedList(path, [KEY]).add([ADA])
    assert path.stat().st_mode & 0o777 == 0o600
    assert "ada" not in path.read_text()
    with path.open("a") as file:
        file.write("2026-11-26 3f2a")  # a process that was killed
    known = ErasedList(path, ["k" * 32, KEY])
    assert known.has(ADA)
    known.add(["bo@acme.example"])
    again = ErasedList(path, ["k" * 32, KEY])
    assert (again.has("bo@acme.example"), again.has("cy@acme.example")) == (True, False)
    assert len(path.read_text().splitlines()) == 3
    assert again.problems() == ["Damaged lines of the list: 1."]
    without = ErasedList(path, ["k" * 32])
    assert not without.has(ADA)
    assert "made with a secret key that is not set now: 1." in without.problems()[0]


def test_list_has_the_time_of_the_last_erasure(tmp_path: Path) -> None:
    path = tmp_path / "erased.txt"
    before = datetime.now(UTC)
    ErasedList(path, [KEY]).add([ADA])
    line = path.read_text()
    at = ErasedList(path, [KEY]).erased_at(ADA)
    assert at
    assert before <= at <= datetime.now(UTC)
    path.write_text(line + "2020-01-02" + line[line.index(" ") :])  # as earlier lines were
    assert ErasedList(path, [KEY]).erased_at(ADA) == at
    path.write_text("2020-01-02" + line[line.index(" ") :] + "2020-01-99" + line[line.index(" ") :])
    old = ErasedList(path, [KEY])
    assert old.erased_at(ADA) == datetime(2020, 1, 3, tzinfo=UTC)
    assert old.problems() == ["Damaged lines of the list: 1."]
    old.add([ADA])
    assert (old.erased_at(ADA) or before) > at


def test_list_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="SMART_ACCOUNTS_ERASED_LIST: the file cannot be used"):
        ErasedList(tmp_path, [KEY])
    with pytest.raises(BadSetting, match="SMART_ACCOUNTS_ERASED_LIST: the file cannot be used"):
        ErasedList(tmp_path / "missing" / "erased.txt", [KEY]).add([ADA])


def test_list_on_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "erased.txt"
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, content: write(file, content[:100]))
        with pytest.raises(BadSetting, match="the file cannot be used: No space left on device"):
            ErasedList(path, [KEY]).add([ADA])
    ErasedList(path, [KEY]).add([ADA])
    again = ErasedList(path, [KEY])
    assert (again.has(ADA), again.problems()) == (True, ["Damaged lines of the list: 1."])
