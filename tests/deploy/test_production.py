"""Check deploy/compose.production.yml and its scripts without a container engine."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyOptions, parse_duration

from smart_accounts.settings import POOL_SIZE, PREFIX, Settings, load_settings
from worker import SHUTDOWN_GRACE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.production.yml"
OPERATOR = {"BUILD_ID": "4f1c2d", "SMART_ACCOUNTS_PUBLIC_URL": "https://accounts.example.com"}
"""What an operator has to give."""
STEPS = {"temporal-schema", "temporal-namespace"}
APPS = {"worker", "web"}


def interpolated(text: str, given: dict[str, str]) -> str:
    """Replace variables as ``docker compose`` does. A missing one is an error."""
    for name in set(re.findall(r"(?<!\$)\$\{(\w+)", text)):
        text = re.sub(rf"(?<!\$)\$\{{{name}(:\?[^}}]*)?\}}", given[name], text)
    assert not re.search(r"(?<!\$)\$(?!\$)", text)
    return text


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(interpolated(COMPOSE.read_text(), OPERATOR))
    return found


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def test_compose_file_is_valid(compose: dict[str, Any]) -> None:
    # The validator does not know anchors that use other anchors.
    PyOptions().from_yaml(yaml.safe_dump(compose)).validate()


@pytest.mark.parametrize("name", OPERATOR)
def test_missing_variable_is_named(name: str) -> None:
    assert f"${{{name}:?" in COMPOSE.read_text()


def test_every_service_is_confined(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}, name
        assert not service.get("privileged"), name
        assert "cap_add" not in service or name.endswith("postgres"), name


def test_steps_end_and_services_restart(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["restart"] == ("on-failure" if name in STEPS else "unless-stopped")
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert services[needed]["healthcheck"]["test"]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert needed in STEPS


def test_images_are_pinned_to_a_version(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name in APPS:
            assert service["image"] == "smart-account-requests:4f1c2d"
            assert service["build"] == {"context": "..", "args": {"BUILD_ID": "4f1c2d"}}
        else:
            assert re.search(r":v?\d+\.\d+(\.\d+)?(-[\w.-]+)?$", service["image"]), name
    server, tools = services["temporal"]["image"], services["temporal-schema"]["image"]
    assert server.partition(":")[2] == tools.partition(":")[2]
    assert services["temporal-namespace"]["image"] == tools


def test_ports_are_published_on_the_loopback_address_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(ports) == [
        "127.0.0.1:3000:3000",
        "127.0.0.1:8000:8000",
        "127.0.0.1:8233:8080",
        "127.0.0.1:9090:9090",
    ]


def test_volumes_are_declared_and_mounted_files_exist(compose: dict[str, Any]) -> None:
    volumes = [
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    ]
    mounted = {volume for volume in volumes if volume.startswith(".")}
    assert sorted(set(volumes) - mounted) == sorted(compose["volumes"])
    for path in mounted:
        assert (DEPLOY / path).exists(), path


def test_passwords_come_from_files_only(compose: dict[str, Any]) -> None:
    used = set()
    for name, service in compose["services"].items():
        text = str(service.get("environment", {})) + str(service.get("entrypoint", ""))
        read = set(re.findall(r"/run/secrets/(\w+)", text))
        assert read == set(service.get("secrets", [])), name
        for variable in service.get("environment", {}):
            is_secret = re.search(r"PASSWORD|PWD|SECRET|KEYS|DATABASE_URL", variable)
            assert not is_secret or variable.endswith("_FILE"), variable
        used |= read
    declared = {name: secret["file"] for name, secret in compose["secrets"].items()}
    assert declared == {name: f"./secrets/{name}" for name in used}


def test_processes_open_fewer_connections_than_postgres_allows(services: dict[str, Any]) -> None:
    allowed = int(services["postgres"]["command"][-1].removeprefix("max_connections="))
    processes = services["worker"]["deploy"]["replicas"] + 1
    size = int(services["worker"]["environment"]["SMART_ACCOUNTS_DATABASE_POOL_SIZE"])
    assert size == POOL_SIZE
    assert 2 * processes * size <= allowed - 10, "the old processes run for some seconds more"
    temporal = services["temporal"]["environment"]
    per_part = int(temporal["SQL_MAX_CONNS"]) + int(temporal["SQL_VIS_MAX_CONNS"])
    assert 4 * per_part <= allowed - 10


def test_worker_has_time_for_its_graceful_shutdown(services: dict[str, Any]) -> None:
    grace_period = parse_duration(services["worker"]["stop_grace_period"])
    assert grace_period > SHUTDOWN_GRACE.total_seconds()


def test_web_server_believes_the_address_that_docker_passes_on(compose: dict[str, Any]) -> None:
    [network] = compose["networks"]["default"]["ipam"]["config"]
    trusted = compose["services"]["web"]["environment"]["FORWARDED_ALLOW_IPS"]
    assert trusted == network["gateway"]


def test_prometheus_asks_every_program(services: dict[str, Any]) -> None:
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = {job.pop("job_name"): job for job in configuration["scrape_configs"]}
    assert jobs == {
        "worker": {"dns_sd_configs": [{"names": ["worker"], "type": "A", "port": 9464}]},
        "web": {"dns_sd_configs": [{"names": ["web"], "type": "A", "port": 9463}]},
        "temporal": {"static_configs": [{"targets": ["temporal:8000"]}]},
    }
    worker, web, temporal = (services[name]["environment"] for name in jobs)
    assert worker["SMART_ACCOUNTS_METRICS_ADDRESS"] == "0.0.0.0:9464"
    assert web["SMART_ACCOUNTS_WEB_METRICS_ADDRESS"] == "0.0.0.0:9463"
    assert temporal["PROMETHEUS_ENDPOINT"] == "0.0.0.0:8000"


# ---- The operator's steps ------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder with the secrets, made with the commands of docs/production.md."""
    text = (ROOT / "docs" / "production.md").read_text()
    [commands] = re.findall(r"<!-- tested: secrets -->\n *```sh\n(.*?)```", text, re.DOTALL)
    (tmp_path / "deploy").mkdir()
    subprocess.run(["sh", "-eu", "-c", commands], cwd=tmp_path, check=True)
    return tmp_path / "deploy" / "secrets"


def test_commands_make_every_secret(secrets: Path, compose: dict[str, Any]) -> None:
    assert {path.name for path in secrets.iterdir()} == set(compose["secrets"])
    assert secrets.stat().st_mode & 0o777 == 0o700
    # The users in the containers are not the file's owner.
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o644}


@pytest.mark.parametrize("program", sorted(APPS))
def test_programs_start_with_these_settings(
    program: str, secrets: Path, services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)
    folder = secrets.parent
    shutil.copy(ROOT / ".env.example", folder / ".env")  # deploy/.env
    monkeypatch.chdir(folder)
    environment = services[program]["environment"]
    names = {name for name in environment if name.startswith(PREFIX)}
    assert names <= {
        f"{PREFIX}{name.upper()}{file}" for name in Settings.model_fields for file in ("", "_FILE")
    }
    for name in names:
        monkeypatch.setenv(name, environment[name].replace("/run/secrets", str(secrets)))
    settings = load_settings()
    host = settings.database_url.partition("@")[2].partition("/")[0]
    assert services[host]["environment"]["POSTGRES_DB"] == settings.database_url.rpartition("/")[2]
    password = (secrets / "database_password").read_text().strip()
    assert f":{password}@" in settings.database_url
    assert settings.oidc_client_secret is None, "the file is empty until it is filled in"


# ---- The scripts ---------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A program that records its variables and arguments."""
    program = tmp_path / "record"
    program.write_text(
        f'#!/bin/sh\necho "$SQL_DATABASE|$SQL_PASSWORD$POSTGRES_PWD|$*" >>{tmp_path}/calls\n'
    )
    program.chmod(0o755)
    (tmp_path / "password").write_text("it's $ecret\n")
    return program


def test_schema_script_sets_up_both_databases(record: Path, tmp_path: Path) -> None:
    (tmp_path / "temporal-sql-tool").symlink_to(record)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SQL_PASSWORD_FILE": str(tmp_path / "password"),
    }
    script = DEPLOY / "temporal" / "schema.sh"
    subprocess.run(["sh", script], env=environment, check=True)
    schema = "/etc/temporal/schema/postgresql/v12"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{database}|it's $ecret|{command}"
        for database, folder in (("temporal", "temporal"), ("temporal_visibility", "visibility"))
        for command in (
            "create",
            "setup-schema -v 0.0",
            f"update-schema -d {schema}/{folder}/versioned",
        )
    ]


def test_namespace_script_waits_until_the_cluster_knows_the_namespace(tmp_path: Path) -> None:
    """Right after it was created, a new namespace is "not found"."""
    temporal = tmp_path / "temporal"
    temporal.write_text(f"""#!/bin/sh
cd {tmp_path}
case "$2 $3" in
    'namespace describe') exit 1 ;;
    'search-attribute list') test -e asked || {{ touch asked; exit 1; }} ;;
    'search-attribute create') test -e asked && touch created ;;
esac
""")
    temporal.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TEMPORAL_NAMESPACE": "smart",
        "RETENTION": "90d",
    }
    subprocess.run(["sh", DEPLOY / "temporal" / "namespace.sh"], env=environment, check=True)
    assert (tmp_path / "created").exists()


def test_temporal_gets_its_password(record: Path, tmp_path: Path, services: dict[str, Any]) -> None:
    shell, option, command = services["temporal"]["entrypoint"]
    command = command.replace("$$", "$")
    command = command.replace("/run/secrets/temporal_database_password", f"{tmp_path}/password")
    command = command.replace("/etc/temporal/entrypoint.sh", str(record))
    environment = {"PATH": os.environ["PATH"]}
    subprocess.run([shell, option, command], env=environment, check=True)
    assert (tmp_path / "calls").read_text() == "|it's $ecret|\n"
    (tmp_path / "password").unlink()
    assert subprocess.run([shell, option, command], env=environment, check=False).returncode
