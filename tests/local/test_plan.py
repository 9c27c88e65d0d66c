import os
import socket
import stat
from pathlib import Path

import pytest

from smart_accounts.errors import BadSetting
from smart_accounts.local.configuration import PortTaken, check_ports, free_ports, make_plan
from smart_accounts.settings import PREFIX

ALL = {"WEB_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT", "SMTP_PORT", "MAILBOX_PORT", "OIDC_PORT"}


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {"PATH": "/bin"})

    assert plan.ports == {
        "WEB_PORT": 8000,
        "TEMPORAL_PORT": 7233,
        "TEMPORAL_UI_PORT": 8233,
        "SMTP_PORT": 1025,
        "MAILBOX_PORT": 8025,
        "OIDC_PORT": 9400,
    }
    keys = plan.environment[f"{PREFIX}SECRET_KEYS"]
    assert plan.environment == {
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


def test_each_port_moves_what_depends_on_it(tmp_path: Path) -> None:
    ports = {name: 9000 + number for number, name in enumerate(sorted(ALL))}
    plan = make_plan(tmp_path, {name: str(port) for name, port in ports.items()})

    assert plan.ports == ports
    assert plan.environment["TEMPORAL_ADDRESS"] == f"127.0.0.1:{ports['TEMPORAL_PORT']}"
    assert plan.environment[f"{PREFIX}SMTP_PORT"] == str(ports["SMTP_PORT"])
    assert plan.environment[f"{PREFIX}OIDC_ISSUER"] == f"http://127.0.0.1:{ports['OIDC_PORT']}"
    assert plan.environment[f"{PREFIX}WEB_PORT"] == str(ports["WEB_PORT"])
    assert plan.environment[f"{PREFIX}PUBLIC_URL"] == f"http://127.0.0.1:{ports['WEB_PORT']}"


def test_temporal_steps_aside_for_a_real_one(tmp_path: Path) -> None:
    real = {"TEMPORAL_ADDRESS": "temporal.example:7233", "TEMPORAL_NAMESPACE": "smart"}
    plan = make_plan(tmp_path, real)

    assert not plan.has_temporal
    assert set(plan.ports) == ALL - {"TEMPORAL_PORT", "TEMPORAL_UI_PORT"}
    assert real.items() <= plan.environment.items()
    assert "TEMPORAL_CONFIG_FILE" not in plan.environment
    assert f"{PREFIX}TEMPORAL_UI_URL" not in plan.environment


def test_keys_for_another_temporal_do_not_reach_ours(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {"TEMPORAL_API_KEY": "of the cloud", "TEMPORAL_PROFILE": "cloud"})

    assert "TEMPORAL_API_KEY" not in plan.environment
    assert "TEMPORAL_PROFILE" not in plan.environment


@pytest.mark.parametrize("in_file", [False, True])
def test_the_mailbox_steps_aside_for_a_real_mail_server(tmp_path: Path, in_file: bool) -> None:
    name, value = f"{PREFIX}SMTP_HOSTNAME", "mail.example"
    if in_file:
        (tmp_path / ".env").write_text(f"{name}={value}\n")
    plan = make_plan(tmp_path, {} if in_file else {name: value})

    assert not plan.has_mailbox
    assert set(plan.ports) == ALL - {"SMTP_PORT", "MAILBOX_PORT"}
    assert plan.environment.get(name) == (None if in_file else value)
    assert f"{PREFIX}SMTP_TLS" not in plan.environment


@pytest.mark.parametrize("in_file", [False, True])
def test_the_identity_provider_steps_aside_for_a_real_one(tmp_path: Path, in_file: bool) -> None:
    name, value = f"{PREFIX}OIDC_ISSUER", "https://login.example"
    if in_file:
        (tmp_path / ".env").write_text(f"{name}={value}\n")
    plan = make_plan(tmp_path, {} if in_file else {name: value})

    assert not plan.has_provider
    assert set(plan.ports) == ALL - {"OIDC_PORT"}
    assert plan.environment.get(name) == (None if in_file else value)
    assert f"{PREFIX}OIDC_CLIENT_ID" not in plan.environment


def test_a_client_of_another_provider_is_none_of_ours(tmp_path: Path) -> None:
    names = ("CLIENT_ID", "CLIENT_SECRET", "AUDIENCE")
    mine = {f"{PREFIX}OIDC_{name}": "mine" for name in names}
    environment = make_plan(tmp_path, mine).environment

    assert environment[f"{PREFIX}OIDC_CLIENT_ID"] == "smart-accounts"
    assert environment[f"{PREFIX}OIDC_CLIENT_SECRET"] == "any"
    assert environment[f"{PREFIX}OIDC_AUDIENCE"] == "smart-accounts"


@pytest.mark.parametrize("name", ["PUBLIC_URL", "SECRET_KEYS", "DATABASE_URL", "MAIL_FROM"])
@pytest.mark.parametrize("in_file", [False, True])
def test_what_is_set_stays_as_it_is(tmp_path: Path, name: str, in_file: bool) -> None:
    if in_file:
        (tmp_path / ".env").write_text(f"{PREFIX}{name}=mine\n")
    plan = make_plan(tmp_path, {} if in_file else {f"{PREFIX}{name}": "mine"})

    assert plan.environment.get(f"{PREFIX}{name}") == (None if in_file else "mine")


@pytest.mark.parametrize("value", ["x", "0", "65536", "-1", "80.5", "²"])
def test_a_bad_port_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(BadSetting, match=r"^SMTP_PORT: must be a port number"):
        make_plan(tmp_path, {"SMTP_PORT": value})


def test_the_keys_are_kept_and_for_the_owner_alone(tmp_path: Path) -> None:
    first = make_plan(tmp_path, {}).environment[f"{PREFIX}SECRET_KEYS"]
    second = make_plan(tmp_path, {}).environment[f"{PREFIX}SECRET_KEYS"]
    (tmp_path / "other").mkdir()
    other = make_plan(tmp_path / "other", {}).environment[f"{PREFIX}SECRET_KEYS"]

    assert first == second != other
    assert len(first) >= 32
    assert stat.S_IMODE((tmp_path / ".local/secret-keys").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / ".local").stat().st_mode) == 0o700


def test_keys_that_were_not_written_to_the_end_are_not_used(tmp_path: Path) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/secret-keys.new").write_text("half")

    assert len(make_plan(tmp_path, {}).environment[f"{PREFIX}SECRET_KEYS"]) >= 32


def test_a_taken_port_is_named_with_its_use_and_its_variable() -> None:
    ports = free_ports()
    with (
        socket.create_server(("127.0.0.1", ports["MAILBOX_PORT"])),
        pytest.raises(PortTaken) as taken,
    ):
        check_ports(ports)

    assert str(taken.value) == (
        f"port {ports['MAILBOX_PORT']} for the mailbox's pages is taken; "
        "set MAILBOX_PORT to use another one"
    )
    check_ports(ports)  # and nothing stays bound


def test_two_parts_cannot_share_a_port() -> None:
    ports = free_ports()
    with pytest.raises(PortTaken, match="set SMTP_PORT"):
        check_ports(ports | {"SMTP_PORT": ports["WEB_PORT"]})
