"""What ``make release`` builds, and the version that the programs show."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import typer

import starter
from smart_accounts.admin import __main__ as admin
from smart_accounts.cli.run import run
from smart_accounts.version import VERSION

ROOT = Path(__file__).parents[2]
VENV = Path(sys.executable).parents[1]
FILES = ("Makefile", "pyproject.toml", "README.md", "CHANGELOG.md", "requirements-runtime.txt")
CODE = ("workflows", "activities", "smart_accounts", "worker.py", "starter.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what ``make release`` reads."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    for name in CODE:
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def make_release(checkout: Path) -> subprocess.CompletedProcess[str]:
    stamp = VENV / ".ready"  # the packages are installed, because this test runs
    command = ["make", "--silent", f"--old-file={stamp}", f"VENV={VENV}", "release"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def runtime_packages() -> dict[str, str]:
    """Return the version of each package that the programs need on any system."""
    pins = (ROOT / "requirements-runtime.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", pins, re.MULTILINE))


def test_release_has_the_program_its_bill_of_materials_and_its_licences(checkout: Path) -> None:
    made = make_release(checkout)
    assert made.returncode == 0, made.stderr
    name = f"smart_account_requests-{VERSION}"
    dist = checkout / "dist"
    wheel = dist / f"{name}-py3-none-any.whl"
    bill, licences = dist / f"{name}.cdx.json", dist / f"{name}.licenses.csv"
    assert set(made.stdout.split()) == {f"dist/{each.name}" for each in (wheel, bill, licences)}
    assert set(dist.iterdir()) == {wheel, bill, licences}

    with ZipFile(wheel) as archive:
        packed = {entry for entry in archive.namelist() if "dist-info" not in entry}
    tracked = subprocess.check_output(["git", "ls-files", *CODE], cwd=ROOT, text=True).split()
    assert packed >= set(tracked)
    assert all(entry.startswith(CODE) for entry in packed)

    described = json.loads(bill.read_text())
    assert described["bomFormat"] == "CycloneDX"
    assert described["metadata"]["component"]["version"] == VERSION
    components = {each["name"].lower(): each["version"] for each in described["components"]}
    assert components == runtime_packages()

    with licences.open(newline="") as file:
        rows = list(csv.DictReader(file))
    listed = {re.sub(r"[_.]", "-", row["Name"].lower()) for row in rows}
    assert set(runtime_packages()) - listed <= {"colorama"}  # needed on Windows only
    assert not [row["Name"] for row in rows if row["License"] in ("", "UNKNOWN")]


@pytest.mark.parametrize(
    "heading", [f"## [{VERSION}]", "## [Unreleased]", "## [9.9.9] - 2026-01-01"]
)
def test_release_needs_a_section_with_a_date_in_the_changelog(checkout: Path, heading: str) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    (checkout / "CHANGELOG.md").write_text(re.sub(r"(?m)^## \[.*$", heading, changelog))
    made = make_release(checkout)
    assert made.returncode != 0
    assert made.stderr.startswith(
        f"CHANGELOG.md needs a section with a date: ## [{VERSION}] - YYYY-MM-DD\n"
    )
    assert not (checkout / "dist").exists()


@pytest.mark.parametrize(("build", "shown"), [("", ""), ("4f1c2d", " (build 4f1c2d)")])
@pytest.mark.parametrize("app", [starter.app, admin.app], ids=["starter", "admin"])
def test_command_lines_show_the_version_and_the_build(
    app: typer.Typer,
    build: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SMART_ACCOUNTS_BUILD_ID", build)
    monkeypatch.setattr(sys, "argv", ["program", "--version"])
    assert run(app) == 0
    assert capsys.readouterr().out == f"smart-account-requests {VERSION}{shown}\n"


def test_worker_shows_the_version_without_any_setting(tmp_path: Path) -> None:
    worker = [sys.executable, str(ROOT / "worker.py"), "--version"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    shown = subprocess.check_output(worker, cwd=tmp_path, env=environment, text=True)
    assert shown == f"smart-account-requests {VERSION}\n"
