"""Prometheus' own tool for rules, from Debian's package."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.pgbouncer import UNPACKED

PLACES = os.pathsep.join([os.environ["PATH"], str(UNPACKED / "usr" / "bin")])


def run_promtool(*arguments: str | Path) -> str:
    """Run a command of promtool, which must succeed. Returns its output."""
    program = shutil.which("promtool", path=PLACES)
    assert program, "promtool is missing: make tools"
    ended = subprocess.run(
        [program, *arguments],
        env={"GOGC": "400"},  # a third of its CPU time would go into the collection of garbage
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
