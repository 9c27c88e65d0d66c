"""What the local stack consists of: ports, data, and which parts step aside for real ones."""

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
from smart_accounts.settings import PREFIX

HOST = "127.0.0.1"
CLIENT_ID = "smart-accounts"
"""Of the pages, at the local identity provider; the audience of its access tokens too."""
ROOT = Path(__file__).parents[2]
"""Where ``worker.py`` and ``starter.py`` are."""

_PORTS = {
    "WEB_PORT": (8000, "the web pages"),
    "TEMPORAL_PORT": (7233, "the Temporal server"),
    "TEMPORAL_UI_PORT": (8233, "Temporal's Web UI"),
    "SMTP_PORT": (1025, "the mailbox's SMTP server"),
    "MAILBOX_PORT": (8025, "the mailbox's pages"),
    "OIDC_PORT": (9400, "the identity provider"),
}
_OF_TEMPORAL = ("TEMPORAL_PORT", "TEMPORAL_UI_PORT")
_OF_MAILBOX = ("SMTP_PORT", "MAILBOX_PORT")


class PortTaken(SmartAccountsError):
    """Something else listens where a part of the stack should."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of the stack in ``home``: where the programs run and a ``.env`` file may lie."""

    home: Path
    ports: Mapping[str, int]
    """By variable; only those that a part of ours will listen on."""
    environment: Mapping[str, str]
    """What the worker and the web app are started with."""

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
    """Where the stack keeps its data; other users of the machine can't look into it."""
    data = home / ".local"
    data.mkdir(mode=0o700, exist_ok=True)
    return data


def make_plan(home: Path, environ: Mapping[str, str]) -> Plan:
    """Decide what runs here.

    Raises:
        BadSetting: a port variable is no port number.
    """
    # The programs read the .env file too, so what stands there counts as set.
    file = {name: value for name, value in dotenv_values(home / ".env").items() if value}
    given = file | {name: value for name, value in environ.items() if value}
    ports = {name: _port(name, environ) for name in _PORTS}
    environment = dict(environ)
    if environ.get("TEMPORAL_ADDRESS"):
        ports = {name: port for name, port in ports.items() if name not in _OF_TEMPORAL}
    else:
        # A profile, key or certificate meant for another server would keep the clients from ours.
        environment = {k: v for k, v in environment.items() if not k.startswith("TEMPORAL_")}
        environment["TEMPORAL_ADDRESS"] = f"{HOST}:{ports['TEMPORAL_PORT']}"
        environment["TEMPORAL_CONFIG_FILE"] = os.devnull
        if not given.get(f"{PREFIX}TEMPORAL_UI_URL"):
            web_ui = f"http://{HOST}:{ports['TEMPORAL_UI_PORT']}/namespaces/default"
            environment[f"{PREFIX}TEMPORAL_UI_URL"] = web_ui
    if given.get(f"{PREFIX}SMTP_HOSTNAME"):
        ports = {name: port for name, port in ports.items() if name not in _OF_MAILBOX}
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
        environment[f"{PREFIX}OIDC_CLIENT_SECRET"] = "any"  # it wants one and checks none
    environment[f"{PREFIX}WEB_PORT"] = str(ports["WEB_PORT"])
    for name, value in _defaults(home, ports["WEB_PORT"]).items():
        if not given.get(name):
            environment[name] = value
    return Plan(home=home, ports=ports, environment=environment)


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
    """The generated keys: the same in every run, since the links in sent emails depend on them."""
    if not path.exists():
        unfinished = path.with_name("secret-keys.new")
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_urlsafe(32) + "\n")
        unfinished.rename(path)  # whole or not at all, also when interrupted here
    return path.read_text().strip()


def check_ports(ports: Mapping[str, int]) -> None:
    """See that every port is free.

    Raises:
        PortTaken: one line that names the port, what it is for and the variable that moves it.
    """
    held: list[socket.socket] = []  # kept open to the end: two parts can't share one either
    try:
        for name, port in ports.items():
            try:
                held.append(socket.create_server((HOST, port)))
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                why = "is taken" if taken else f"can't be used ({os.strerror(error.errno or 0)})"
                raise PortTaken(
                    f"port {port} for {_PORTS[name][1]} {why}; set {name} to use another one"
                ) from None
    finally:
        for each in held:
            each.close()


def free_ports() -> dict[str, int]:
    """Ports for a stack of its own beside others.

    They lie below the range from which systems hand out ports at random, so that a connection
    made in the meantime can't take one.
    """
    while True:
        found = random.sample(range(20000, 32000), len(_PORTS))
        ports = dict(zip(_PORTS, found, strict=True))
        try:
            check_ports(ports)
        except PortTaken:
            continue
        return ports
