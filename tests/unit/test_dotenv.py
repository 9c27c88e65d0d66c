"""A ``.env`` file that cannot be read stops a program with one line."""

import errno
from collections.abc import Callable
from pathlib import Path

import dotenv
import pytest

from smart_accounts.errors import BadSetting
from smart_accounts.local.configuration import configure
from smart_accounts.settings import PREFIX, load_client_settings, load_settings

READERS = [load_settings, load_client_settings, lambda: configure(Path.cwd(), {})]


@pytest.mark.parametrize("read", READERS, ids=["settings", "client settings", "local stack"])
@pytest.mark.parametrize("reason", ["not UTF-8 text", "Permission denied"])
def test_dotenv_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[], object], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_bytes(f"{PREFIX}ORGANISATION_NAME=Müller\n".encode("latin-1"))
    if reason == "Permission denied":  # root may read every file

        def refuse(*_: object, **__: object) -> object:
            raise PermissionError(errno.EACCES, reason)

        monkeypatch.setattr(dotenv.main, "open", refuse, raising=False)
    with pytest.raises(BadSetting) as error:
        read()
    assert str(error.value) == f"bad settings: .env: cannot read the file ({reason})"
