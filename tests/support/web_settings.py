"""Settings in tests."""

from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from smart_accounts.settings import ClientSettings, Settings
from tests.support.keys import KEY

ORGANISATION = {
    "organisation_name": "Example Accounts",
    "support_url": "https://service.example/help",
}


class _GivenSettings(Settings):
    """Settings without the environment. To look there takes more time than to open a site."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def web_settings(public_url: str, **changes: Any) -> Settings:
    values = {
        "public_url": public_url,
        "secret_keys": KEY,
        "smtp_hostname": "127.0.0.1",
        "mail_from": "accounts@service.example",
    }
    return _GivenSettings(**values | changes)


def client_settings(**changes: Any) -> ClientSettings:
    """Return the settings of a client of Temporal. Without changes, it encrypts nothing."""
    return ClientSettings(_env_file=None, **changes)
