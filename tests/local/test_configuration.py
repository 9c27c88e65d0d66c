import os
import socket
import stat
from pathlib import Path

import pytest

from smart_accounts.errors import BadSetting
from smart_accounts.local.configuration import PortInUse, check_ports, configure, free_ports
from smart_accounts.settings import PREFIX

DEFAULT_PORTS = {
    "WEB_PORT": 8000,
    "TEMPORAL_PORT": 7233,
    "TEMPORAL_UI_PORT": 8233,
    "SMTP_PORT": 1025,
    "MAILBOX_PORT": 8025,
    "OIDC_PORT": 9400,
}


def test_defaults_need_no_setting(tmp_path: Path) -> None:
    stack = configure(tmp_path, {"PATH": "/bin"})

    assert stack.ports == DEFAULT_PORTS
    keys = stack.environment[f"{PREFIX}SECRET_KEYS"]
    assert stack.environment == {
        "PATH": "/bin",
        "TEMPORAL_ADDRESS": "127.0.0.1:7233",
        "TEMPORAL_CONFIG_FILE": os.devnull,
        f"{PREFIX}TEMPORAL_UI_URL": "http://127.0.0.1:8233/namespaces/default",
        f"{PREFIX}PUBLIC_URL": "http://127.0.0.1:8000",
        f"{PREFIX}SECRET_KEYS": keys,
        f"{PREFIX}DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/.local/accounts.db",
        f"{PREFIX}SMTP_HOSTNAME": "127.0.0.1",
        f"{PREFIX}SMTP_PORT": "1025",
        f"{PREFIX}SMTP_TLS": "none",
        f"{PREFIX}MAIL_FROM": "no-reply@smart-accounts.example",
        f"{PREFIX}OIDC_ISSUER": "http://127.0.0.1:9400",
        f"{PREFIX}OIDC_CLIENT_ID": "smart-accounts",
        f"{PREFIX}OIDC_CLIENT_SECRET": "any",
        f"{PREFIX}OIDC_AUDIENCE": "smart-accounts",
        f"{PREFIX}WEB_PORT": "8000",
    }


def test_changed_ports_change_the_settings_that_use_them(tmp_path: Path) -> None:
    ports = {name: 9000 + number for number, name in enumerate(sorted(DEFAULT_PORTS))}
    stack = configure(tmp_path, {name: str(port) for name, port in ports.items()})

    assert stack.ports == ports
    assert stack.environment["TEMPORAL_ADDRESS"] == f"127.0.0.1:{ports['TEMPORAL_PORT']}"
    assert stack.environment[f"{PREFIX}SMTP_PORT"] == str(ports["SMTP_PORT"])
    assert stack.environment[f"{PREFIX}OIDC_ISSUER"] == f"http://127.0.0.1:{ports['OIDC_PORT']}"
    assert stack.environment[f"{PREFIX}WEB_PORT"] == str(ports["WEB_PORT"])
    assert stack.environment[f"{PREFIX}PUBLIC_URL"] == f"http://127.0.0.1:{ports['WEB_PORT']}"


def test_real_temporal_replaces_the_local_one(tmp_path: Path) -> None:
    real = {"TEMPORAL_ADDRESS": "temporal.example:7233", "TEMPORAL_NAMESPACE": "smart"}
    stack = configure(tmp_path, real)

    assert not stack.has_temporal
    assert set(stack.ports) == set(DEFAULT_PORTS) - {"TEMPORAL_PORT", "TEMPORAL_UI_PORT"}
    assert real.items() <= stack.environment.items()
    assert "TEMPORAL_CONFIG_FILE" not in stack.environment
    assert f"{PREFIX}TEMPORAL_UI_URL" not in stack.environment


def test_keys_for_another_temporal_are_removed(tmp_path: Path) -> None:
    stack = configure(tmp_path, {"TEMPORAL_API_KEY": "of the cloud", "TEMPORAL_PROFILE": "cloud"})

    assert "TEMPORAL_API_KEY" not in stack.environment
    assert "TEMPORAL_PROFILE" not in stack.environment


@pytest.mark.parametrize("in_file", [False, True])
def test_real_mail_server_replaces_the_mailbox(tmp_path: Path, in_file: bool) -> None:
    name, value = f"{PREFIX}SMTP_HOSTNAME", "mail.example"
    if in_file:
        (tmp_path / ".env").write_text(f"{name}={value}\n")
    stack = configure(tmp_path, {} if in_file else {name: value})

    assert not stack.has_mailbox
    assert set(stack.ports) == set(DEFAULT_PORTS) - {"SMTP_PORT", "MAILBOX_PORT"}
    assert stack.environment.get(name) == (None if in_file else value)
    assert f"{PREFIX}SMTP_TLS" not in stack.environment


@pytest.mark.parametrize("in_file", [False, True])
def test_real_identity_provider_replaces_the_local_one(tmp_path: Path, in_file: bool) -> None:
    name, value = f"{PREFIX}OIDC_ISSUER", "https://login.example"
    if in_file:
        (tmp_path / ".env").write_text(f"{name}={value}\n")
    stack = configure(tmp_path, {} if in_file else {name: value})

    assert not stack.has_provider
    assert set(stack.ports) == set(DEFAULT_PORTS) - {"OIDC_PORT"}
    assert stack.environment.get(name) == (None if in_file else value)
    assert f"{PREFIX}OIDC_CLIENT_ID" not in stack.environment


def test_client_of_another_provider_is_ignored(tmp_path: Path) -> None:
    names = ("CLIENT_ID", "CLIENT_SECRET", "AUDIENCE")
    mine = {f"{PREFIX}OIDC_{name}": "mine" for name in names}
    environment = configure(tmp_path, mine).environment

    assert environment[f"{PREFIX}OIDC_CLIENT_ID"] == "smart-accounts"
    assert environment[f"{PREFIX}OIDC_CLIENT_SECRET"] == "any"
    assert environment[f"{PREFIX}OIDC_AUDIENCE"] == "smart-accounts"


@pytest.mark.parametrize("name", ["PUBLIC_URL", "SECRET_KEYS", "DATABASE_URL", "MAIL_FROM"])
@pytest.mark.parametrize("in_file", [False, True])
def test_given_setting_is_kept(tmp_path: Path, name: str, in_file: bool) -> None:
    if in_file:
        (tmp_path / ".env").write_text(f"{PREFIX}{name}=mine\n")
    stack = configure(tmp_path, {} if in_file else {f"{PREFIX}{name}": "mine"})

    assert stack.environment.get(f"{PREFIX}{name}") == (None if in_file else "mine")


@pytest.mark.parametrize("in_file", [False, True])
def test_settings_in_files_count_as_given(tmp_path: Path, in_file: bool) -> None:
    names = [f"{PREFIX}{name}_FILE" for name in ("SMTP_HOSTNAME", "DATABASE_URL", "SECRET_KEYS")]
    if in_file:
        (tmp_path / ".env").write_text("".join(f"{name}=/run/secrets/x\n" for name in names))
    stack = configure(tmp_path, {} if in_file else dict.fromkeys(names, "/run/secrets/x"))

    assert not stack.has_mailbox
    assert not stack.environment.keys() & {name.removesuffix("_FILE") for name in names}


@pytest.mark.parametrize("value", ["x", "0", "65536", "-1", "80.5", "²"])
def test_bad_port_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(BadSetting, match=r"^SMTP_PORT: must be a port number"):
        configure(tmp_path, {"SMTP_PORT": value})


def test_secret_keys_are_kept_and_private(tmp_path: Path) -> None:
    first = configure(tmp_path, {}).environment[f"{PREFIX}SECRET_KEYS"]
    second = configure(tmp_path, {}).environment[f"{PREFIX}SECRET_KEYS"]
    (tmp_path / "other").mkdir()
    other = configure(tmp_path / "other", {}).environment[f"{PREFIX}SECRET_KEYS"]

    assert first == second != other
    assert len(first) >= 32
    assert stat.S_IMODE((tmp_path / ".local/secret-keys").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / ".local").stat().st_mode) == 0o700


def test_half_written_secret_keys_are_not_used(tmp_path: Path) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/secret-keys.new").write_text("half")

    assert len(configure(tmp_path, {}).environment[f"{PREFIX}SECRET_KEYS"]) >= 32


def test_port_in_use_is_named_with_its_use_and_variable() -> None:
    ports = free_ports()
    with (
        socket.create_server(("127.0.0.1", ports["MAILBOX_PORT"])),
        pytest.raises(PortInUse) as error,
    ):
        check_ports(ports)

    assert str(error.value) == (
        f"port {ports['MAILBOX_PORT']} for the mailbox's pages is in use; "
        "set MAILBOX_PORT to another port"
    )
    check_ports(ports)  # the first check left no port bound


def test_two_parts_cannot_share_a_port() -> None:
    ports = free_ports()
    with pytest.raises(PortInUse, match="set SMTP_PORT"):
        check_ports(ports | {"SMTP_PORT": ports["WEB_PORT"]})
