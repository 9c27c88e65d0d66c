"""What a local stack consists of: its ports, its data, and the parts that real servers replace."""

import errno
import os
import random
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from smart_accounts.errors import BadSetting, SmartAccountsError
from smart_accounts.setting_files import reading_dotenv
from smart_accounts.settings import PREFIX

HOST = "127.0.0.1"
CLIENT_ID = "smart-accounts"
"""The client ID of the web pages at the local identity provider, and the API's audience."""
ROOT = Path(__file__).parents[2]
"""The folder of ``worker.py`` and ``starter.py``."""

_PORTS = {
    "WEB_PORT": (8000, "the web pages"),
    "TEMPORAL_PORT": (7233, "the Temporal server"),
    "TEMPORAL_UI_PORT": (8233, "Temporal's Web UI"),
    "SMTP_PORT": (1025, "the mailbox's SMTP server"),
    "MAILBOX_PORT": (8025, "the mailbox's pages"),
    "OIDC_PORT": (9400, "the identity provider"),
}
"""Default and use of each port."""


class PortInUse(SmartAccountsError):
    """A port that the stack needs is not free."""


@dataclass(frozen=True, kw_only=True)
class StackConfiguration:
    """What one stack runs, and with which ports and environment."""

    home: Path
    """The working directory of the programs. It may hold a ``.env`` file."""
    ports: Mapping[str, int]
    """Ports by variable, only for the parts that this stack runs itself."""
    environment: Mapping[str, str]
    """The environment of the worker and the web application."""

    @property
    def data(self) -> Path:
        return data_directory(self.home)

    @property
    def has_temporal(self) -> bool:
        return "TEMPORAL_PORT" in self.ports

    @property
    def has_mailbox(self) -> bool:
        return "MAILBOX_PORT" in self.ports

    @property
    def has_provider(self) -> bool:
        return "OIDC_PORT" in self.ports

    @property
    def temporal_address(self) -> str:
        return self.environment["TEMPORAL_ADDRESS"]

    def url(self, port: str) -> str:
        return f"http://{HOST}:{self.ports[port]}"


def data_directory(home: Path) -> Path:
    """Return the folder of the stack's data. Other users of the machine cannot read it."""
    data = home / ".local"
    data.mkdir(mode=0o700, exist_ok=True)
    return data


def configure(home: Path, environ: Mapping[str, str]) -> StackConfiguration:
    """Return the configuration of a stack in the folder ``home``.

    Raises:
        BadSetting: the value of a port variable is not a port number, or the .env file cannot be
            read.
    """
    given = _given(home, environ)
    ports = {name: _port(name, environ) for name in _PORTS}
    environment = dict(environ)
    if environ.get("TEMPORAL_ADDRESS"):
        del ports["TEMPORAL_PORT"], ports["TEMPORAL_UI_PORT"]
    else:
        # A profile, key or certificate for another server would keep the clients from this one.
        environment = {k: v for k, v in environment.items() if not k.startswith("TEMPORAL_")}
        environment["TEMPORAL_ADDRESS"] = f"{HOST}:{ports['TEMPORAL_PORT']}"
        environment["TEMPORAL_CONFIG_FILE"] = os.devnull
        if not given.get(f"{PREFIX}TEMPORAL_UI_URL"):
            web_ui = f"http://{HOST}:{ports['TEMPORAL_UI_PORT']}/namespaces/default"
            environment[f"{PREFIX}TEMPORAL_UI_URL"] = web_ui
    if given.get(f"{PREFIX}SMTP_HOSTNAME"):
        del ports["SMTP_PORT"], ports["MAILBOX_PORT"]
    else:
        environment[f"{PREFIX}SMTP_HOSTNAME"] = HOST
        environment[f"{PREFIX}SMTP_PORT"] = str(ports["SMTP_PORT"])
        environment[f"{PREFIX}SMTP_TLS"] = "none"
    if given.get(f"{PREFIX}OIDC_ISSUER"):
        del ports["OIDC_PORT"]
    else:
        environment[f"{PREFIX}OIDC_ISSUER"] = f"http://{HOST}:{ports['OIDC_PORT']}"
        environment[f"{PREFIX}OIDC_CLIENT_ID"] = CLIENT_ID
        environment[f"{PREFIX}OIDC_AUDIENCE"] = CLIENT_ID
        environment[f"{PREFIX}OIDC_CLIENT_SECRET"] = "any"  # required, but never checked
    environment[f"{PREFIX}WEB_PORT"] = str(ports["WEB_PORT"])
    for name, value in _defaults(home, ports["WEB_PORT"]).items():
        if not given.get(name):
            environment[name] = value
    return StackConfiguration(home=home, ports=ports, environment=environment)


def _given(home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    # The programs read the .env file too, so its values count as set.
    with reading_dotenv():
        file = {name: value for name, value in dotenv_values(home / ".env").items() if value}
    given = file | {name: value for name, value in environ.items() if value}
    return given | {name.removesuffix("_FILE"): path for name, path in given.items()}


def _port(name: str, environ: Mapping[str, str]) -> int:
    value = environ.get(name) or str(_PORTS[name][0])
    if not value.isascii() or not value.isdecimal() or not 0 < int(value) < 65536:
        raise BadSetting(f"{name}: must be a port number, 1 to 65535")
    return int(value)


def _defaults(home: Path, web_port: int) -> dict[str, str]:
    data = data_directory(home)
    return {
        f"{PREFIX}PUBLIC_URL": f"http://{HOST}:{web_port}",
        f"{PREFIX}SECRET_KEYS": _secret_keys(data / "secret-keys"),
        f"{PREFIX}DATABASE_URL": f"sqlite+aiosqlite:///{data / 'accounts.db'}",
        f"{PREFIX}MAIL_FROM": "no-reply@smart-accounts.example",
    }


def _secret_keys(path: Path) -> str:
    """Return the generated keys.

    Every run uses the same keys, because the links in sent emails depend on them.
    """
    if not path.exists():
        unfinished = path.with_name("secret-keys.new")
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_urlsafe(32) + "\n")
        unfinished.rename(path)  # atomic, so an interrupted run never leaves half a key
    return path.read_text().strip()


def check_ports(ports: Mapping[str, int]) -> None:
    """Check that every port is free.

    Raises:
        PortInUse: names the port, its use and the variable that changes it, in one line.
    """
    # Every port stays bound until the end, so that two parts with the same port are noticed too.
    bound: list[socket.socket] = []
    try:
        for name, port in ports.items():
            try:
                bound.append(socket.create_server((HOST, port)))
            except OSError as error:
                in_use = error.errno == errno.EADDRINUSE
                problem = "in use" if in_use else f"not usable ({os.strerror(error.errno or 0)})"
                raise PortInUse(
                    f"port {port} for {_PORTS[name][1]} is {problem}; set {name} to another port"
                ) from None
    finally:
        for listener in bound:
            listener.close()


def free_ports() -> dict[str, int]:
    """Return free ports for a stack that runs beside others.

    They lie below the range from which systems choose ports for outgoing connections. Such a
    connection can therefore not take one of them before it is used.
    """
    while True:
        numbers = random.sample(range(20000, 32000), len(_PORTS))
        ports = dict(zip(_PORTS, numbers, strict=True))
        try:
            check_ports(ports)
        except PortInUse:
            continue
        return ports
