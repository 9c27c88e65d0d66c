"""Settings from environment variables with the prefix ``SMART_ACCOUNTS_`` or a ``.env`` file."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from smart_accounts.contract.fields import AccountDomain, EmailAddress, Name, PurgeTime
from smart_accounts.errors import BadSetting
from smart_accounts.key_rules import MIN_KEY_LENGTH, NOT_RANDOM, is_guessable, split_keys
from smart_accounts.networks import (
    BaseAddress,
    IssuerAddress,
    PrivateNetworks,
    WebAddress,
    is_host,
    is_this_machine,
)
from smart_accounts.setting_files import read_files, reading_dotenv

PREFIX = "SMART_ACCOUNTS_"
POOL_SIZE = 15
"""How many connections to PostgreSQL one process opens at most, by default."""

SomeSettings = TypeVar("SomeSettings", bound=BaseSettings)


class SmtpTls(StrEnum):
    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class ClientSettings(BaseSettings):
    """The settings of every program that sends messages to Temporal, also of the command line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    free_mail_exceptions: Annotated[frozenset[str], NoDecode] = frozenset()
    payload_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    payload_plaintext: Literal["allowed"] | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read each setting also from the file that the variable ``…_FILE`` names."""
        assert isinstance(env_settings, EnvSettingsSource)
        assert isinstance(dotenv_settings, EnvSettingsSource)
        files = EnvSettingsSource(settings_cls)
        given = {**dotenv_settings.env_vars, **env_settings.env_vars}
        files.env_vars = read_files(PREFIX, settings_cls.model_fields, given)
        # The files come first, because an empty variable beside one counts as not set.
        return init_settings, files, env_settings, dotenv_settings

    @field_validator("*", mode="before")
    @classmethod
    def _treat_empty_as_unset(cls, value: Any, info: ValidationInfo) -> Any:
        is_optional = info.field_name and cls.model_fields[info.field_name].default is None
        return None if is_optional and value == "" else value

    @field_validator("free_mail_exceptions", mode="before")
    @classmethod
    def _split_domains(cls, value: str | frozenset[str]) -> frozenset[str]:
        domains = value.split(",") if isinstance(value, str) else value  # or the default
        return frozenset(domain.strip().lower() for domain in domains if domain.strip())

    @field_validator("payload_keys", mode="before")
    @classmethod
    def _split_payload_keys(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        return split_keys(value) if isinstance(value, str) else value  # or the default

    @field_validator("payload_keys")
    @classmethod
    def _check_payload_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        values = [key.get_secret_value() for key in keys]
        if any(len(value) < MIN_KEY_LENGTH for value in values):
            raise ValueError(f"must be keys of at least {MIN_KEY_LENGTH} characters")
        # On every machine, because the command line does not know the public address.
        if any(map(is_guessable, values)):
            raise ValueError(NOT_RANDOM)
        return keys

    @field_validator("payload_plaintext", mode="before")
    @classmethod
    def _treat_no_plaintext_as_unset(cls, value: str | None) -> str | None:
        return value or None

    @property
    def encryption_keys(self) -> list[str]:
        """Return the values of ``payload_keys``, newest first."""
        return [key.get_secret_value() for key in self.payload_keys]

    @property
    def allows_plaintext(self) -> bool:
        """Return True if payloads of other programs need not be encrypted."""
        return not self.payload_keys or self.payload_plaintext is not None


class Settings(ClientSettings):
    """The settings of worker and web. Temporal has its own variables, ``TEMPORAL_*``."""

    public_url: BaseAddress
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode]
    session_keys: Annotated[tuple[SecretStr, ...] | None, NoDecode] = None
    database_url: str = "sqlite+aiosqlite:///smart-accounts.db"
    database_pool_size: Annotated[int, Field(gt=0)] = POOL_SIZE
    smtp_hostname: str
    smtp_port: Annotated[int, Field(gt=0, lt=65536)] = 587
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: SmtpTls = SmtpTls.STARTTLS
    smtp_local_hostname: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]{1,255}$")] | None = None
    mail_from: EmailAddress
    bounce_domain: AccountDomain | None = None
    emails_through_queue: bool = False
    review_email: EmailAddress | None = None
    max_open_per_customer: Annotated[int, Field(gt=0)] = 5
    max_open_per_requester: Annotated[int, Field(gt=0)] = 2000
    max_starts_per_requester_per_hour: Annotated[int, Field(gt=0)] = 500
    max_emails_per_mailbox_per_day: Annotated[int, Field(gt=0)] = 10
    max_emails_per_requester_per_day: Annotated[int, Field(gt=0)] = 1000
    purge_after: PurgeTime | None = None
    erased_list: Path | None = None
    webhook_allowed_networks: PrivateNetworks = ()
    organisation_name: Name = "Smart Accounts"
    support_url: WebAddress | None = None
    support_email: EmailAddress | None = None
    oidc_issuer: Annotated[IssuerAddress, Field(max_length=255)] | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_audience: str | None = None
    oidc_company_claim: Annotated[str, Field(min_length=1)] = "company"
    oidc_trust_email: bool = False
    oidc_operator_claim: Annotated[str, Field(min_length=1)] = "roles"
    oidc_operator_role: Annotated[str, Field(min_length=1)] = "smart-accounts-operator"
    temporal_ui_url: BaseAddress | None = None
    metrics_address: str | None = None
    web_metrics_address: str | None = None
    health_address: str | None = None
    log_format: LogFormat = LogFormat.TEXT
    web_host: str = "127.0.0.1"
    web_port: Annotated[int, Field(gt=0, lt=65536)] = 8000

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: AnyHttpUrl) -> AnyHttpUrl:
        if value.scheme != "https" and not is_this_machine(value.host):
            raise ValueError("must begin with https://, or with http:// on this machine")
        return value

    @field_validator("secret_keys", "session_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: str | None) -> tuple[str, ...]:
        return split_keys(value or "")

    @field_validator("secret_keys", "session_keys")
    @classmethod
    def _check_keys(
        cls, keys: tuple[SecretStr, ...], info: ValidationInfo
    ) -> tuple[SecretStr, ...]:
        values = [key.get_secret_value() for key in keys]
        is_missing = not keys and info.field_name == "secret_keys"
        if is_missing or any(len(value) < MIN_KEY_LENGTH for value in values):
            raise ValueError(f"must be one or more keys of at least {MIN_KEY_LENGTH} characters")
        if _is_public(info) and any(map(is_guessable, values)):
            raise ValueError(NOT_RANDOM)
        return keys

    @field_validator("smtp_hostname", "web_host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        if not is_host(value):
            raise ValueError("must be a host name or an IP address")
        return value

    @field_validator("smtp_tls")
    @classmethod
    def _check_smtp_tls(cls, value: SmtpTls, info: ValidationInfo) -> SmtpTls:
        password = info.data.get("smtp_password")
        if value is SmtpTls.NONE and password and _is_public(info):
            raise ValueError("must be starttls or tls, because a password is set")
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        if not value.startswith(("sqlite+aiosqlite://", "postgresql+asyncpg://")):
            raise ValueError("must begin with sqlite+aiosqlite:// or postgresql+asyncpg://")
        try:
            url = make_url(value)
            url.get_dialect()().create_connect_args(url)
        except (ArgumentError, ValueError):
            example = "postgresql+asyncpg://USER:PASSWORD@/NAME?host=A:5432&host=B:5432"
            raise ValueError(f"must be an address. For several servers: {example}") from None
        return value

    @property
    def base_url(self) -> str:
        """Return ``public_url`` without a trailing slash. A link is this plus a path."""
        return str(self.public_url).rstrip("/")

    @property
    def is_local(self) -> bool:
        """Return True if the service has an address of this machine, as under ``make run``."""
        return is_this_machine(self.public_url.host)

    @property
    def signing_keys(self) -> list[str]:
        """Return the values of ``secret_keys``, newest first."""
        return [key.get_secret_value() for key in self.secret_keys]

    @property
    def cookie_keys(self) -> list[str]:
        """Return the keys that sign cookies, newest first: ``session_keys`` if they are set."""
        return [key.get_secret_value() for key in self.session_keys or self.secret_keys]


def _is_public(info: ValidationInfo) -> bool:
    """Return True if the service has an address that is not this machine's."""
    url = info.data.get("public_url")
    return url is not None and not is_this_machine(url.host)


def load_settings() -> Settings:
    """Read the settings of worker and web.

    Raises:
        BadSetting: a setting is missing or wrong. The message is one line that names each such
            setting and quotes no value.
    """
    return _load(Settings)


def load_client_settings() -> ClientSettings:
    """Read the settings of a program that only sends messages to Temporal.

    Raises:
        BadSetting: a setting is wrong.
    """
    return _load(ClientSettings)


def _load(kind: type[SomeSettings]) -> SomeSettings:
    try:
        with reading_dotenv():
            return kind()  # the values come from the environment
    except ValidationError as error:
        problems = map(_problem, error.errors(include_url=False, include_input=False))
        raise BadSetting("bad settings: " + "; ".join(problems)) from None


def _problem(error: ErrorDetails) -> str:
    name = f"{PREFIX}{str(error['loc'][0]).upper()}"
    if error["type"] == "missing":
        return f"{name}: is required"
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}: " + re.sub("^(Input|String) should ", "must ", message)
