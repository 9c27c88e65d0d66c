"""Settings in tests."""

from typing import Any

from smart_accounts.settings import ClientSettings, Settings
from tests.support.keys import KEY

ORGANISATION = {
    "organisation_name": "Example Accounts",
    "support_url": "https://service.example/help",
}


def web_settings(public_url: str, **changes: Any) -> Settings:
    values = {
        "public_url": public_url,
        "secret_keys": KEY,
        "smtp_hostname": "127.0.0.1",
        "mail_from": "accounts@service.example",
    }
    return Settings(_env_file=None, **values | changes)


def client_settings(**changes: Any) -> ClientSettings:
    """Return the settings of a client of Temporal. Without changes, it encrypts nothing."""
    return ClientSettings(_env_file=None, **changes)
