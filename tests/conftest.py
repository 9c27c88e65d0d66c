"""Fixture modules, options, and the order in which tests run."""

import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import certifi
import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

gc.disable()  # until all modules are imported
# Before the first import of such a module: a failed assertion in it then shows both sides.
pytest.register_assert_rewrite("tests.support")

pytest_plugins = [
    "tests.support.browser",
    "tests.support.histories",
    "tests.support.issuer",
    "tests.support.looks",
    "tests.support.mail_server",
    "tests.support.metrics",
    "tests.support.pgbouncer",
    "tests.support.ports",
    "tests.support.postgres",
    "tests.support.production",
    "tests.support.service",
    "tests.support.store",
    "tests.support.subscriber",
    "tests.support.temporal_server",
]

# Workers in the process of the tests have no deadlock detector. It takes a task that waits two
# seconds for a busy machine's CPU for a deadlock, and interrupts it at any line.
os.environ["TEMPORAL_DEBUG"] = "1"
# HTTP clients read all certificate authorities when they are made, which takes 30 ms, and a test
# makes several clients. One authority is enough, because no test trusts a public one.
if "PYTEST_XDIST_WORKER" not in os.environ:
    authority, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    authorities = tempfile.NamedTemporaryFile("w", suffix=".pem")  # noqa: SIM115 - until the end
    authorities.write(f"{authority}{end}\n")
    authorities.flush()
    os.environ["SSL_CERT_FILE"] = authorities.name
# HTTP clients look for sniffio in each call. It is not installed, and is looked for in all folders.
sys.modules["sniffio"] = None  # type: ignore[assignment]  # None means: not found
hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine pauses anywhere
hypothesis.settings.load_profile("tests")
os.umask(0o022)  # PostgreSQL runs as another user, and reads the files that are copied for it


@pytest.fixture
def example() -> dict[str, Any]:
    """A request as any client in any language would write it."""
    return {
        "account_name": "Acme Networks",
        "account_domain": "acme.example",
        "customer_email": "ada@acme.example",
        "note_to_customer": "As agreed on the phone.",
        "user_emails": ["bo@acme.example"],
        "note_to_added_users": "Welcome aboard.",
        "requester": {
            "email": "pat@partner.example",
            "name": "Pat Lee",
            "company": "Partner Ltd",
        },
    }


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """True if the drills run in full number and length."""
    return bool(request.config.getoption("--full"))


SERVERS = {
    "any_database_url",
    "certified_provider",
    "chromium",
    "dev_server",
    "env",
    "local_provider",
    "new_dev_server",
    "pgbouncer_url",
    "postgres",
    "stack",
    "starter",
    # In the process of the tests:
    "issuer",
    "mail_server",
    "mailbox",
    "open_api",
    "open_site",
    "partner_site",
    "subscriber",
    "url",
}
"""Fixtures that start a server."""
TOGETHER = {
    "tests/local/test_whole_story.py": "stack",
    "tests/local/test_access_token.py": "stack",
    "tests/local/test_demo.py": "stack",
    "tests/local/test_upgrade.py": "stack",
    "tests/cli/test_requests.py": "starter",
    "tests/e2e/test_operations_guide.py": "operations guide",
    "tests/cli/test_close.py": "starter",
    "tests/cli/test_import.py": "starter",
    "tests/web/auth/test_real_providers.py": "identity providers",
    "tests/e2e/test_encryption.py": "encryption",
}
"""Files whose tests run in one process, because the servers they share take seconds to start."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that need a server. A test that starts one without a fixture has its own mark."""
    if SERVERS.intersection(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.server)


# pytest-xdist 3.8 has ``--dist=loadgroup`` for this, but it has no effect on pytest 9.2.
class Together(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(nodeid.partition("::")[0], nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


def pytest_collection_finish() -> None:
    """Keep the garbage collector away from the imported modules, because it finds nothing there."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)  # after pytest-randomly
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest tests first, so that none of them runs alone at the end.

    Without ``--full``, leave out the drills that have a short form elsewhere.
    """
    if not config.getoption("--full"):
        items[:] = [item for item in items if not item.get_closest_marker("full")]
    items.sort(key=lambda item: item.path.parent.name not in ("faults", "local"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-histories",
        action="store_true",
        help="save new histories of this run in tests/histories, for test_replay.py",
    )
    parser.addoption("--full", action="store_true", help="run the drills in full number and length")
