"""Check the Dockerfile, and what the image contains, without a container engine."""

import json
import re
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def test_dockerfile_passes_its_linter() -> None:
    subprocess.run(
        [BIN / "hadolint", "--failure-threshold", "style", ROOT / "Dockerfile"], check=True
    )


@pytest.mark.parametrize("name", ["SMART_ACCOUNTS_WEB_PORT", "SMART_ACCOUNTS_HEALTH_ADDRESS"])
@pytest.mark.parametrize("status", [200, 503])
def test_health_check_of_the_image(name: str, status: int) -> None:
    """The worker has a health address, the web server a port."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    [check] = re.findall(r"^ +CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        Thread(target=server.handle_request, daemon=True).start()
        port = str(server.server_port)
        value = port if name.endswith("PORT") else f"127.0.0.1:{port}"
        environment = {"PATH": f"{BIN}", "SMART_ACCOUNTS_WEB_PORT": "1", name: value}
        finished = subprocess.run(
            json.loads(check), env=environment, check=False, stderr=subprocess.DEVNULL
        )
    assert (finished.returncode == 0) is (status == 200)


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
