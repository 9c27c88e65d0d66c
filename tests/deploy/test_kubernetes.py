"""Check deploy/kubernetes without a cluster: what ``kubectl apply -k`` would send."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from temporalio.envconfig import ClientConfigProfile

from smart_accounts.settings import PREFIX, Settings, load_settings
from smart_accounts.version import VERSION
from worker import SHUTDOWN_GRACE

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")
OVERLAYS = ("deployment", "worker-deployment")
SECRETS = {
    "database_url": "postgresql+asyncpg://smart_accounts:secret@db.example/smart_accounts\n",
    "secret_keys": "kq3XH0pQ2m7fT9sVb1LzYc5RwJ8dAeGu\n",
    "payload_keys": "Zr7TnB4vKx1QmW9pLs6HyD3cFg8JaEuR\n",
    "smtp_password": "secret\n",
    "oidc_client_secret": "secret\n",
}

Objects = dict[tuple[str, str], dict[str, Any]]
"""The objects of an overlay by kind and name."""


def built(overlay: Path) -> Objects:
    text = subprocess.check_output([KUBECTL, "kustomize", overlay], text=True)
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> Objects:
    return built(BASE / request.param)


@pytest.fixture(params=["web", "worker"])
def workload(request: pytest.FixtureRequest, objects: Objects) -> dict[str, Any]:
    [found] = [
        each for (_, name), each in objects.items() if name == request.param and pods_of(each)
    ]
    return found


def pods_of(each: dict[str, Any]) -> dict[str, Any] | None:
    template: dict[str, Any] | None = each.get("spec", {}).get("template")
    return template


def settings_of(objects: Objects) -> tuple[str, dict[str, str]]:
    [(name, found)] = [
        (name, each) for (kind, name), each in objects.items() if kind == "ConfigMap"
    ]
    return name, found["data"]


def test_objects_are_valid(objects: Objects) -> None:
    for each in objects.values():
        if each["apiVersion"] == "temporal.io/v1alpha1":
            continue  # Kubernetes does not know it
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "smart-accounts"


def test_worker_deployment_has_what_the_controller_needs() -> None:
    objects = built(BASE / "worker-deployment")
    assert ("Deployment", "worker") not in objects
    found = objects["WorkerDeployment", "worker"]
    spec = found["spec"]
    # Its schema also has these: minReadySeconds, progressDeadlineSeconds.
    assert spec.keys() == {"replicas", "template", "rollout", "sunset", "workerOptions"}
    assert spec["rollout"] == {"strategy": "Manual"}
    connection = objects["Connection", spec["workerOptions"]["connectionRef"]["name"]]
    _, settings = settings_of(objects)
    assert connection["spec"] == {"hostPort": settings["TEMPORAL_ADDRESS"]}
    assert spec["workerOptions"]["temporalNamespace"] == settings["TEMPORAL_NAMESPACE"]
    # Temporal's limit. The controller makes the deployment's name of these two.
    assert len(f"{found['metadata']['namespace']}/{found['metadata']['name']}") <= 63
    # The controller makes such a Deployment of the template.
    labels = spec["template"]["metadata"]["labels"]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": found["metadata"],
        "spec": {"selector": {"matchLabels": labels}, "template": spec["template"]},
    }
    kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


def test_pods_are_confined(workload: dict[str, Any]) -> None:
    pod = workload["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [user] = re.findall(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == int(user)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert container["image"] == f"registry.example.com/smart-account-requests:{VERSION}"
    assert pod["terminationGracePeriodSeconds"] > SHUTDOWN_GRACE.total_seconds()


def test_probes_ask_where_the_program_responds(workload: dict[str, Any]) -> None:
    [container] = workload["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    environment = {each["name"]: each["value"] for each in container["env"]}
    readiness, startup = "/readyz", "/healthz"
    if workload["metadata"]["name"] == "web":
        readiness, startup = startup, readiness  # it still serves pages during an outage
        expected = Settings.model_fields["web_port"].default
        assert environment["SMART_ACCOUNTS_WEB_HOST"] == "0.0.0.0"
        metrics = environment["SMART_ACCOUNTS_WEB_METRICS_ADDRESS"]
    else:
        host, _, expected = environment["SMART_ACCOUNTS_HEALTH_ADDRESS"].partition(":")
        assert host == "0.0.0.0", "the probes come from outside of the pod"
        metrics = environment["SMART_ACCOUNTS_METRICS_ADDRESS"]
    assert metrics == f"0.0.0.0:{ports['metrics']}"
    for probe, path in (
        ("readiness", readiness),
        ("liveness", "/healthz"),
        ("startup", startup),
    ):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert asked["path"] == path
        assert ports[asked["port"]] == int(expected)


def test_one_pod_of_each_program_survives_a_drained_node(
    objects: Objects, workload: dict[str, Any]
) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    budget = objects["PodDisruptionBudget", workload["metadata"]["name"]]["spec"]
    assert budget["selector"] == {"matchLabels": labels}
    assert budget["minAvailable"] < workload["spec"]["replicas"], "a node could never be drained"
    if workload["kind"] == "Deployment":
        assert workload["spec"]["selector"] == {"matchLabels": labels}
        strategy = workload["spec"]["strategy"]
        if workload["metadata"]["name"] == "web":
            assert strategy["rollingUpdate"]["maxUnavailable"] == 0
        else:
            assert strategy == {"type": "Recreate"}, "two releases would share the requests"
    else:
        assert "selector" not in workload["spec"]


def test_service_leads_to_the_web_server(objects: Objects) -> None:
    service = objects["Service", "web"]["spec"]
    template = objects["Deployment", "web"]["spec"]["template"]
    assert service["selector"] == template["metadata"]["labels"]
    ports = [port["name"] for port in template["spec"]["containers"][0]["ports"]]
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert "http" in ports


def test_programs_start_with_these_settings(
    objects: Objects, workload: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value)
    pod = workload["spec"]["template"]["spec"]
    [container] = pod["containers"]
    config_map, data = settings_of(objects)
    assert container["envFrom"] == [{"configMapRef": {"name": config_map}}]
    assert {"name": "secrets", "mountPath": "/secrets", "readOnly": True} in container[
        "volumeMounts"
    ]
    environment = data | {each["name"]: each["value"] for each in container["env"]}
    names = {name for name in environment if name.startswith(PREFIX)}
    assert names <= {
        f"{PREFIX}{name.upper()}{file}" for name in Settings.model_fields for file in ("", "_FILE")
    }
    for name in names:
        monkeypatch.setenv(name, environment[name].replace("/secrets", str(tmp_path)))
    assert load_settings().database_url == SECRETS["database_url"].strip()
    temporal = {name: value for name, value in data.items() if name.startswith("TEMPORAL_")}
    connect = ClientConfigProfile.load(
        disable_file=True, override_env_vars=temporal
    ).to_client_connect_config()
    assert connect["target_host"] == data["TEMPORAL_ADDRESS"]
    assert connect["namespace"] == data["TEMPORAL_NAMESPACE"]


def test_new_settings_and_images_of_an_overlay_reach_every_pod(tmp_path: Path) -> None:
    """The overlay is the one that docs/production.md shows."""
    text = (ROOT / "docs" / "production.md").read_text()
    [overlay] = re.findall(r"   ```yaml\n(   apiVersion: kustomize.*?)   ```", text, re.DOTALL)
    overlay = re.sub(r"^   ", "", overlay, flags=re.MULTILINE)
    overlay = overlay.replace("sha256:…", f"sha256:{'0' * 64}").replace(", ingress.yaml", "")
    for folder in OVERLAYS:
        (tmp_path / folder).symlink_to(BASE / folder)
    mine = tmp_path / "mine"
    mine.mkdir()
    for folder in OVERLAYS:
        (mine / "kustomization.yaml").write_text(overlay.replace("../deployment", f"../{folder}"))
        objects = built(mine)
        name, settings = settings_of(objects)
        assert settings["SMART_ACCOUNTS_PUBLIC_URL"] == "https://accounts.example.com"
        pods = [pods["spec"] for each in objects.values() if (pods := pods_of(each))]
        assert len(pods) == 2
        for pod in pods:
            [container] = pod["containers"]
            assert container["envFrom"] == [{"configMapRef": {"name": name}}]
            assert container["image"].endswith(f"@sha256:{'0' * 64}")
