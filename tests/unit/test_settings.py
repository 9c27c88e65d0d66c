"""Unsafe settings stop a program at its start, with one line that names the setting."""

from typing import Any

import pytest

from smart_accounts.errors import BadSetting
from smart_accounts.settings import PREFIX, Settings, load_client_settings, load_settings
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
