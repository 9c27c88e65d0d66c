"""Each benchmark once, with the smallest load. Their figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.variants import VARIANTS

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.full, pytest.mark.server]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )


def test_whole_job(tmp_path: Path) -> None:
    options = ("--rounds", "1", "--requests", "4", "--warm-up", "1", "--json")
    done = run("whole_job", *options, "--plot", str(tmp_path / "plot.svg"))
    assert done.returncode == 4, done.stderr  # one round is not judged
    rounds = {each["variant"]: each for each in json.loads(done.stdout)["rounds"]}
    assert rounds.keys() == {variant.name for variant in VARIANTS}
    counted = {name: (each["events"], each["actions"]) for name, each in rounds.items()}
    assert counted["floor-wait"] == ({"11": 4}, {"3": 4})
    assert counted["floor-shape"] == ({"16": 4}, {"6": 4})
    for product in ("product-postgresql", "product-sqlite"):  # a slow email adds events
        assert sum(counted[product][0].values()) == 4
    assert {*rounds["product-postgresql"]["cpu"]} == {"server", "worker", "database", "sink"}
    assert (tmp_path / "plot.svg").exists()


@pytest.mark.parametrize("options", [(), ("--sqlite",)])
def test_scale(options: tuple[str, ...]) -> None:
    load = ("--pending", "4", "--due", "3", "--probes", "2", "--json")
    done = run("scale", *load, *options)
    assert done.returncode == 0, done.stderr
    assert "Every request and every email is accounted for." in done.stderr
    figures = json.loads(done.stdout)
    assert figures["deadlines per second"] > 0
    assert figures["bytes per request in Temporal"] > 0


def test_startup() -> None:
    done = run("startup", "--starts", "2")
    assert done.returncode == 0, done.stderr
    assert "2 starts" in done.stdout


def test_stopped_benchmark_stops_its_programs() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--pending", "1000", "--probes", "1"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stderr
        try:
            assert "worker memory" in benchmark.stderr.readline()
            programs = psutil.Process(benchmark.pid).children(recursive=True)
            assert len(programs) >= 4
        finally:
            benchmark.terminate()
        benchmark.wait(60)
    left = [program for program in programs if program.is_running()]
    for program in left:
        program.kill()
    assert left == []
