"""Packages from npm, for programs that tests run with Node."""

import hashlib
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

_KEPT = Path(sys.prefix) / "npm"


def find_program(name: str) -> str:
    """Return the path of ``node`` or ``npm``."""
    found = shutil.which(name)
    assert found, "needs node and npm: make test installs them for root, or apt-get install npm"
    return found


def link_packages(source: Path, folder: Path) -> None:
    """Let programs in ``folder`` import the packages of ``package-lock.json`` in ``source``.

    The packages stay in ``.venv`` for the next run, because an installation takes 4 s of CPU time.
    """
    lock = (source / "package-lock.json").read_bytes()
    kept = _KEPT / hashlib.sha256(lock).hexdigest()
    if not kept.exists():
        _KEPT.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=_KEPT) as temporary:
            new = Path(temporary, "new")
            new.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(source / name, new)
            options = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
            subprocess.run([find_program("npm"), "ci", *options], cwd=new, check=True)
            with suppress(OSError):  # another process was faster
                new.rename(kept)
    (folder / "node_modules").symlink_to(kept / "node_modules")
