"""Unsafe settings stop a program at its start, with one line that names the setting."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import starter
import worker
from smart_accounts.cli.run import run
from smart_accounts.errors import BadSetting
from smart_accounts.settings import PREFIX, Settings, load_client_settings, load_settings
from smart_accounts.store.store import AccountStore
from smart_accounts.web.__main__ import serve
from tests.support.keys import KEY

NEW_KEY = "another-key-for-tests-that-is-long-enough-too"
PUBLIC = "https://accounts.example"
GOOD = {
    "PUBLIC_URL": PUBLIC,
    "SECRET_KEYS": KEY,
    "SMTP_HOSTNAME": "mail.example",
    "MAIL_FROM": "accounts@service.example",
}
ON_THIS_MACHINE = {"PUBLIC_URL": "http://127.0.0.1:8000"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)  # no .env file
    for name, value in GOOD.items():
        monkeypatch.setenv(PREFIX + name, value)


def load(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(PREFIX + name, value)
    return load_settings()


UNSAFE: list[tuple[str, dict[str, str]]] = [
    ("PUBLIC_URL", {"PUBLIC_URL": "http://accounts.example"}),
    ("PUBLIC_URL", {"PUBLIC_URL": "http://127.0.0.1.evil.example"}),
    ("SECRET_KEYS", {"SECRET_KEYS": "for-trying-out-on-one-machine-only"}),
    ("SECRET_KEYS", {"SECRET_KEYS": f"{KEY},for-trying-out-on-one-machine-only"}),
    ("SECRET_KEYS", {"SECRET_KEYS": "a" * 32}),
    ("SECRET_KEYS", {"SECRET_KEYS": "abcabcabc" * 6}),
    ("SESSION_KEYS", {"SESSION_KEYS": "for-trying-out-on-one-machine-only"}),
    ("SESSION_KEYS", {"SESSION_KEYS": f"{KEY},{'a' * 32}"}),
    ("SMTP_TLS", {"SMTP_TLS": "none", "SMTP_PASSWORD": "secret"}),
]


@pytest.mark.parametrize(("name", "values"), UNSAFE, ids=lambda value: str(value)[:60])
def test_unsafe_settings_of_a_public_service(
    monkeypatch: pytest.MonkeyPatch, name: str, values: dict[str, str]
) -> None:
    with pytest.raises(BadSetting) as error:
        load(monkeypatch, **values)
    message = str(error.value)
    assert message.count(PREFIX) == 1
    assert message.startswith(f"bad settings: {PREFIX}{name}: must be")
    assert not any(key in message for key in values.get("SECRET_KEYS", "no key").split(","))


@pytest.mark.parametrize("value", ["P0D", "PT23H", "90", "P3M", "-P90D"])
def test_wrong_time_of_the_purge(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(BadSetting, match=f"^bad settings: {PREFIX}PURGE_AFTER: must be"):
        load(monkeypatch, PURGE_AFTER=value)
    assert load(monkeypatch, PURGE_AFTER="").purge_after is None
    assert load(monkeypatch, PURGE_AFTER="P90D").purge_after == timedelta(days=90)


@pytest.mark.parametrize("name", ["SMTP_HOSTNAME", "WEB_HOST"])
@pytest.mark.parametrize("value", ["", "x" * 64 + ".example", "ü" * 80, "a..example"])
def test_wrong_host(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=f"^bad settings: {PREFIX}{name}: must be a host name or"):
        load(monkeypatch, **{name: value})
    for host in ("bücher.example", "::1", "mail_1"):
        assert load(monkeypatch, **{name: host})


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@db.example/name",
        "postgresql://u:secret@db.example/name",
        "postgresql+asyncpg://u:secret@a.example:5432,b.example:5432/name",
        "postgresql+asyncpg://u:secret@/name?host=a.example&host=b.example",
    ],
)
def test_wrong_database_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(BadSetting) as error:
        load(monkeypatch, DATABASE_URL=url)
    message = str(error.value)
    assert message.startswith(f"bad settings: {PREFIX}DATABASE_URL: must be")
    assert "secret" not in message
    assert "\n" not in message


@pytest.mark.parametrize("values", [values for _, values in UNSAFE[2:]], ids=str)
def test_the_same_settings_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
) -> None:
    assert load(monkeypatch, **values, **ON_THIS_MACHINE)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"SESSION_KEYS": ""},
        {"SESSION_KEYS": NEW_KEY},
        {"SMTP_TLS": "none"},
        {"SMTP_TLS": "starttls", "SMTP_PASSWORD": "secret"},
        {"DATABASE_URL": "postgresql+asyncpg://u:secret@/name?host=a.example:1&host=b.example:2"},
    ],
    ids=str,
)
def test_safe_settings(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    settings = load(monkeypatch, **values)
    assert settings.base_url == PUBLIC
    assert settings.cookie_keys == [values.get("SESSION_KEYS") or KEY]


@pytest.mark.parametrize("start", [worker.main, serve], ids=["worker", "web"])
async def test_programs_open_the_store_with_their_settings(
    start: Callable[[Settings], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_store(_url: str, pool_size: int, source: str) -> None:
        opened.append((pool_size, source))
        raise InterruptedError

    async def no_services(*_: object) -> object:
        return object()

    monkeypatch.setattr(worker, "wait_for_services", no_services)
    monkeypatch.setattr(AccountStore, "open", open_store)
    try:
        with pytest.raises(InterruptedError):
            await start(load(monkeypatch, DATABASE_POOL_SIZE="7"))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):  # the worker's
            asyncio.get_running_loop().remove_signal_handler(number)
    assert opened == [(7, PUBLIC)]


# ---- Settings in files ---------------------------------------------------------------------


def put_in_files(monkeypatch: pytest.MonkeyPatch, **contents: bytes) -> None:
    """Write each value to a file, and let its ``…_FILE`` variable name the file."""
    for name, content in contents.items():
        Path(name.lower()).write_bytes(content)
        monkeypatch.setenv(f"{PREFIX}{name}_FILE", name.lower())
        monkeypatch.delenv(PREFIX + name, raising=False)


def test_settings_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_files(
        monkeypatch,
        SECRET_KEYS=f"{NEW_KEY},{KEY}\n".encode(),
        SMTP_PASSWORD=" Grüße ".encode(),
        SMTP_PORT=b"\xef\xbb\xbf2525\r\n",  # as an editor on Windows writes it
        OIDC_ISSUER=b"\n",
        OIDC_TRUST_EMAIL=b"true\n",
    )
    monkeypatch.setenv(f"{PREFIX}SECRET_KEYS", "")  # as a copy of .env.example has it
    settings = load_settings()
    assert settings.signing_keys == [NEW_KEY, KEY]
    assert settings.smtp_password
    assert settings.smtp_password.get_secret_value() == " Grüße "
    assert settings.smtp_port == 2525
    assert settings.oidc_issuer is None
    assert settings.oidc_trust_email is True


def test_dotenv_file_names_the_file_of_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("host").write_text("mail.from-a-file.example\n")
    Path(".env").write_text(f"{PREFIX}SMTP_HOSTNAME_FILE=host\n{PREFIX}SMTP_HOSTNAME=\n")
    monkeypatch.delenv(f"{PREFIX}SMTP_HOSTNAME")
    assert load_settings().smtp_hostname == "mail.from-a-file.example"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ("folder", "Is a directory"),
        (b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_file_of_a_setting_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, content: bytes | str | None, reason: str
) -> None:
    path = Path("correct-horse-battery")  # somebody mistook the variable for the password's
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    with pytest.raises(BadSetting) as error:
        load(monkeypatch, SMTP_PASSWORD_FILE=str(path), SMTP_PORT_FILE=str(path))
    assert str(error.value) == (
        f"bad settings: {PREFIX}SMTP_PORT_FILE: cannot read the file ({reason});"
        f" {PREFIX}SMTP_PASSWORD_FILE: cannot read the file ({reason})"
    )


@pytest.mark.parametrize("in_dotenv", [False, True])
def test_setting_with_a_value_and_a_file(
    monkeypatch: pytest.MonkeyPatch, *, in_dotenv: bool
) -> None:
    put_in_files(monkeypatch, SMTP_PASSWORD=b"from the file")
    if in_dotenv:
        Path(".env").write_text(f"{PREFIX}SMTP_PASSWORD=here\n")
    else:
        monkeypatch.setenv(f"{PREFIX}SMTP_PASSWORD", "here")
    with pytest.raises(BadSetting) as error:
        load_settings()
    assert str(error.value) == (
        f"bad settings: {PREFIX}SMTP_PASSWORD: is also set by {PREFIX}SMTP_PASSWORD_FILE;"
        " keep only one"
    )


def test_bad_value_in_a_file_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_files(monkeypatch, SECRET_KEYS=b"too-short\n")
    with pytest.raises(BadSetting, match=f"^bad settings: {PREFIX}SECRET_KEYS: must be") as error:
        load_settings()
    assert "too-short" not in str(error.value)


def test_command_line_reads_its_setting_from_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_in_files(monkeypatch, FREE_MAIL_EXCEPTIONS=b"gmail.com, GMX.net\n")
    assert load_client_settings().free_mail_exceptions == {"gmail.com", "gmx.net"}
    Path("free_mail_exceptions").unlink()
    monkeypatch.setattr(sys, "argv", ["starter.py", "list"])
    assert run(starter.app) == 2
    assert capsys.readouterr().err == (
        f"bad settings: {PREFIX}FREE_MAIL_EXCEPTIONS_FILE: cannot read the file"
        " (No such file or directory)\n"
    )


@pytest.mark.parametrize("url", [PUBLIC, ON_THIS_MACHINE["PUBLIC_URL"]])
@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PAYLOAD_KEYS", "too-short", "must be keys of at least 32 characters"),
        ("PAYLOAD_KEYS", f"{KEY},short", "must be keys of at least 32 characters"),
        ("PAYLOAD_KEYS", "a" * 32, "must be random: make a key with openssl rand -base64 32"),
        ("PAYLOAD_KEYS", f"{KEY},for-trying-out-on-one-machine-only", "must be random: make a key"),
        ("PAYLOAD_PLAINTEXT", "yes", "must be 'allowed'"),
    ],
)
def test_wrong_payload_settings(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str, value: str, problem: str
) -> None:
    """Encryption with a guessable key protects nothing, so it is rejected on every machine."""
    monkeypatch.setenv(PREFIX + name, value)
    monkeypatch.setenv(f"{PREFIX}PUBLIC_URL", url)
    for read in (load_settings, load_client_settings):
        with pytest.raises(BadSetting) as error:
            read()
        assert str(error.value).startswith(f"bad settings: {PREFIX}{name}: {problem}")
        assert KEY not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "keys", "allows_plaintext"),
    [
        ({}, [], True),
        ({"PAYLOAD_KEYS": "", "PAYLOAD_PLAINTEXT": ""}, [], True),
        ({"PAYLOAD_KEYS": f" {KEY} ,"}, [KEY], False),
        ({"PAYLOAD_KEYS": f"{NEW_KEY},{KEY}", "PAYLOAD_PLAINTEXT": ""}, [NEW_KEY, KEY], False),
        ({"PAYLOAD_KEYS": KEY, "PAYLOAD_PLAINTEXT": "allowed"}, [KEY], True),
    ],
    ids=str,
)
def test_payload_settings(
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, str],
    keys: list[str],
    allows_plaintext: bool,
) -> None:
    settings = load(monkeypatch, **values)
    assert (settings.encryption_keys, settings.allows_plaintext) == (keys, allows_plaintext)
    assert load_client_settings().encryption_keys == keys
