"""Addresses and names in settings that people see in emails and on pages."""

from pathlib import Path

import pytest

from smart_accounts.errors import BadSetting
from smart_accounts.settings import PREFIX, Settings, load_settings
from tests.support.keys import KEY

PUBLIC = "https://accounts.example"
REQUIRED = {
    "PUBLIC_URL": PUBLIC,
    "SECRET_KEYS": KEY,
    "SMTP_HOSTNAME": "mail.example",
    "MAIL_FROM": "accounts@service.example",
}
WITH_LOGIN = (
    "https://secret@a.example/",
    "https://:secret@a.example",
    "https://u:secret@a.example",
)
WITH_MORE = ("https://a.example/?x=secret", "https://a.example/?", "https://a.example/#secret")


def load(monkeypatch: pytest.MonkeyPatch, path: Path, **values: str) -> Settings:
    monkeypatch.chdir(path)  # no .env file
    for name, value in (REQUIRED | values).items():
        monkeypatch.setenv(PREFIX + name, value)
    return load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("PUBLIC_URL", url) for url in WITH_LOGIN + WITH_MORE),
        *(("TEMPORAL_UI_URL", url) for url in WITH_LOGIN + WITH_MORE),
        *(("OIDC_ISSUER", url) for url in WITH_LOGIN + WITH_MORE),
        *(("SUPPORT_URL", url) for url in WITH_LOGIN),
        *(("OIDC_ISSUER", f"https://a.example/{secret}") for secret in ("secret\n", "sec ret")),
    ],
)
def test_address_with_too_much(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    """A link is the address plus a path, and people see it."""
    with pytest.raises(BadSetting) as error:
        load(monkeypatch, tmp_path, **{name: value})
    assert str(error.value).startswith(f"bad settings: {PREFIX}{name}: must not ")
    assert str(error.value).count(PREFIX) == 1
    assert "secret" not in str(error.value)


def test_good_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    support = "https://a.example/help?about=accounts#form"
    addresses = {"SUPPORT_URL": support, "TEMPORAL_UI_URL": f"{PUBLIC}/namespaces/ours"}
    settings = load(monkeypatch, tmp_path, PUBLIC_URL=f"{PUBLIC}/path/", **addresses)
    assert settings.base_url == f"{PUBLIC}/path"
    assert str(settings.support_url) == support


@pytest.mark.parametrize(
    "name", ["", " ", "A\nB", "A\rB", "A\u2028B", "A\x85B", "A\u202eB"], ids=repr
)
def test_wrong_name_of_the_organisation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """The name is in a header of each email."""
    with pytest.raises(BadSetting, match=f"^bad settings: {PREFIX}ORGANISATION_NAME: must not "):
        load(monkeypatch, tmp_path, ORGANISATION_NAME=name)
    settings = load(monkeypatch, tmp_path, ORGANISATION_NAME="Größe & Söhne")
    assert settings.organisation_name == "Größe & Söhne"
