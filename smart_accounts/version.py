"""The version of the service, and the build that runs."""

import os

VERSION = "1.0.0"
"""The only place that has the version. ``pyproject.toml`` reads it from here."""


def build_id() -> str | None:
    """Return the id of the build, which only an image has."""
    return os.environ.get("SMART_ACCOUNTS_BUILD_ID") or None


def code_id() -> str:
    """Return the name of this code for Temporal: the id of the build, or else the version."""
    return build_id() or VERSION


def describe() -> str:
    """Return the version and the build in one line, for ``--version``."""
    build = build_id()
    return f"smart-account-requests {VERSION}" + (f" (build {build})" if build else "")
