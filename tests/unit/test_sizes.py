"""Files and functions stay short. Each exception has its reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("activities", "benchmarks", "smart_accounts", "tests", "workflows")
FILES = [
    *ROOT.glob("*.py"),
    *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")),
]
LONGEST_FILE = 300
LONGEST_FUNCTION = 45
LONG_FILES = {
    "smart_accounts/sweep/sweep.py": "one comparison, whose steps share what they found",
    "tests/e2e/test_sweep.py": "each difference on one server, and the restore drills",
    "tests/e2e/test_deploys.py": "one server, whose current version takes the tasks of others",
    "tests/e2e/test_encryption.py": "one server, whose file is searched",
    "tests/web/auth/test_real_providers.py": "the same sign-in with each real provider",
    "workflows/smart_account_request.py": "the whole life of a request, with all of its messages",
}
LONG_FUNCTIONS = {
    "test_many_missing_requests_wait_for_the_operator": "the story of a lost Temporal",
    "test_store_restored_from_an_older_backup": "the story of one restore, with each kind of end",
    "live": "each kind of life of a request once, in one order",
    "test_metrics_and_logs_of_a_life_with_faults": "the story of one life, and what is measured",
    "test_temporal_has_the_search_attributes_and_keeps_requests": "the commands of a real server",
    "upgrade": "migration 0001 lists all tables, and migrations are never changed",
    "create_app": "names each part of the web application once",
    "request": "starter.py declares one option per field",
    "test_request_until_withdrawn_and_the_next_one": "the story of one request over the API",
    "test_fifty_acceptances_at_once": "one story: set-up, crowd and what everybody sees",
    "test_database_down": "the story of one outage, from before it until after it",
    "test_switchover": "the story of one switchover, from before it until after it",
    "test_no_event_is_lost_and_a_dead_endpoint_delays_nothing": "the story of a dead endpoint",
    "test_another_workflow_sends_emails_left_after_an_hour": "the story of one mail outage",
}


def test_files_and_functions_are_short() -> None:
    too_long = []
    for file in FILES:
        text, name = file.read_text(), file.relative_to(ROOT)
        if text.count("\n") > LONGEST_FILE and str(name) not in LONG_FILES:
            too_long.append(f"{name}: {text.count(chr(10))} lines")
        for function, lines in functions(text):
            if lines > LONGEST_FUNCTION and function not in LONG_FUNCTIONS:
                too_long.append(f"{name}: {function} has {lines} lines")
    assert too_long == []


def functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or 0) - node.lineno + 1
