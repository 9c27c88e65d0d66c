"""Settings of the web application in tests."""

from typing import Any

from smart_accounts.settings import Settings
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
