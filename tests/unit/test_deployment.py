"""The version of a worker, from the environment."""

import pytest
from temporalio.common import WorkerDeploymentVersion

from smart_accounts.errors import BadSetting
from smart_accounts.temporal.deployment import deployment_version


def set_version(monkeypatch: pytest.MonkeyPatch, name: str, build_id: str) -> None:
    monkeypatch.setenv("TEMPORAL_DEPLOYMENT_NAME", name)
    monkeypatch.setenv("TEMPORAL_WORKER_BUILD_ID", build_id)


@pytest.mark.parametrize(
    ("name", "build_id"),
    [
        ("smart-accounts", "v1"),
        ("production/worker", "1.0.2-5f3a"),  # Temporal's Worker Controller joins names with a /
        ("n" * 63, "b" * 63),
    ],
)
def test_version(monkeypatch: pytest.MonkeyPatch, name: str, build_id: str) -> None:
    set_version(monkeypatch, name, build_id)
    assert deployment_version() == WorkerDeploymentVersion(name, build_id)


def test_worker_without_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    set_version(monkeypatch, "", "")
    assert deployment_version() is None
    monkeypatch.delenv("TEMPORAL_DEPLOYMENT_NAME")
    monkeypatch.delenv("TEMPORAL_WORKER_BUILD_ID")
    assert deployment_version() is None


@pytest.mark.parametrize(
    ("name", "build_id", "named"),
    [
        ("smart-accounts", "", "TEMPORAL_WORKER_BUILD_ID: is required"),
        ("", "v1", "TEMPORAL_DEPLOYMENT_NAME: is required"),
        ("n" * 64, "v1", "TEMPORAL_DEPLOYMENT_NAME"),
        ("smart.accounts", "v1", "TEMPORAL_DEPLOYMENT_NAME"),
        ("smart:accounts", "v1", "TEMPORAL_DEPLOYMENT_NAME"),
        ("__smart", "v1", "TEMPORAL_DEPLOYMENT_NAME"),
        ("smart-accounts", "b" * 64, "TEMPORAL_WORKER_BUILD_ID"),
        ("smart-accounts", "5f3a\n", "TEMPORAL_WORKER_BUILD_ID"),
        ("smart-accounts", "v 1", "TEMPORAL_WORKER_BUILD_ID"),
        ("smart-accounts", "__v1", "TEMPORAL_WORKER_BUILD_ID"),
        ("smart-accounts", "\u0661", "TEMPORAL_WORKER_BUILD_ID"),
    ],
)
def test_version_that_temporal_rejects(
    monkeypatch: pytest.MonkeyPatch, name: str, build_id: str, named: str
) -> None:
    set_version(monkeypatch, name, build_id)
    with pytest.raises(BadSetting, match=f"^bad settings: {named}[^\n]+$"):
        deployment_version()
