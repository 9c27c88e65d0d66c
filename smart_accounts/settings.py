"""Settings from the environment, prefix ``SMART_ACCOUNTS_``, or a ``.env`` file."""

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from smart_accounts.contract.fields import AccountDomain, EmailAddress
from smart_accounts.errors import BadSetting

PREFIX = "SMART_ACCOUNTS_"
MIN_KEY_LENGTH = 32


class SmtpTls(StrEnum):
    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class Settings(BaseSettings):
    """What worker and web need to know. Temporal's address comes from its own ``TEMPORAL_*``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    public_url: AnyHttpUrl
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode]
    payload_keys: SecretStr | None = None
    database_url: str = "sqlite+aiosqlite:///smart-accounts.db"
    smtp_hostname: Annotated[str, Field(min_length=1)]
    smtp_port: Annotated[int, Field(gt=0, lt=65536)] = 587
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: SmtpTls = SmtpTls.STARTTLS
    mail_from: EmailAddress
    bounce_domain: AccountDomain | None = None
    max_open_per_customer: Annotated[int, Field(gt=0)] = 5
    max_starts_per_requester_per_hour: Annotated[int, Field(gt=0)] = 500
    organisation_name: Annotated[str, Field(min_length=1)] = "Smart Accounts"
    support_url: AnyHttpUrl | None = None
    oidc_issuer: Annotated[str, Field(max_length=255)] | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_audience: str | None = None
    oidc_company_claim: Annotated[str, Field(min_length=1)] = "company"
    oidc_operator_claim: Annotated[str, Field(min_length=1)] = "roles"
    oidc_operator_role: Annotated[str, Field(min_length=1)] = "smart-accounts-operator"
    temporal_ui_url: AnyHttpUrl | None = None
    metrics_address: str | None = None
    web_host: str = "127.0.0.1"
    web_port: Annotated[int, Field(gt=0, lt=65536)] = 8000

    @field_validator("secret_keys", mode="before")
    @classmethod
    def _split(cls, value: str) -> tuple[str, ...]:
        return tuple(key.strip() for key in value.split(",") if key.strip())

    @field_validator("secret_keys")
    @classmethod
    def _long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not keys or any(len(key.get_secret_value()) < MIN_KEY_LENGTH for key in keys):
            raise ValueError(f"needs one or more keys of at least {MIN_KEY_LENGTH} characters")
        return keys

    @field_validator("payload_keys")
    @classmethod
    def _not_yet(cls, value: SecretStr | None) -> None:
        if value and value.get_secret_value():  # whoever sets it counts on it
            raise ValueError("payload encryption is not available in this version")

    @field_validator("database_url")
    @classmethod
    def _async_url(cls, value: str) -> str:
        try:
            driver = make_url(value).drivername
        except ArgumentError:
            driver = ""
        if driver not in ("sqlite+aiosqlite", "postgresql+asyncpg"):
            raise ValueError("must begin with sqlite+aiosqlite:// or postgresql+asyncpg://")
        return value

    @field_validator(
        "oidc_issuer",
        "oidc_client_id",
        "oidc_client_secret",
        "oidc_audience",
        "metrics_address",
        mode="before",
    )
    @classmethod
    def _empty_is_not_set(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("oidc_issuer")
    @classmethod
    def _an_issuer(cls, value: str | None) -> str | None:
        # Kept as it is written: tokens must name it to the letter.
        url = urlsplit(value or "https://none")
        local = url.hostname in ("127.0.0.1", "::1", "localhost")
        if not url.hostname or (url.scheme != "https" and not (local and url.scheme == "http")):
            raise ValueError("must begin with https://, or http:// on this machine")
        if url.query or url.fragment:
            raise ValueError("must have no query and no fragment")
        return value

    @property
    def base_url(self) -> str:
        """``public_url`` without a trailing slash: links are this plus a path."""
        return str(self.public_url).rstrip("/")


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        BadSetting: one line that names each missing or wrong setting, no value quoted.
    """
    try:
        return Settings()  # the values come from the environment
    except ValidationError as error:
        problems = [
            f"{PREFIX}{str(each['loc'][0]).upper()}: "
            + ("is required" if each["type"] == "missing" else each["msg"])
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise BadSetting("bad settings: " + "; ".join(problems)) from None
