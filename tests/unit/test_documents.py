"""Check that the documents match the repository."""

import re
from pathlib import Path

import pytest

from smart_accounts.web.security_log import Event
from tests.support.documents import anchors_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
LONGEST_CELL = 160  # two lines of 80 characters


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text())
    paths = [link for link in links if not link.startswith(("http://", "https://"))]
    assert [path for path in paths if not (document.parent / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_headings(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text())
    found = [(document.parent / path if path else document, anchor) for path, anchor in links]
    missing = [
        anchor for path, anchor in found if path.suffix == ".md" and anchor not in anchors_of(path)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_table_cells_are_short(document: Path) -> None:
    rows = [line for line in document.read_text().splitlines() if line.startswith("|")]
    cells = [cell.strip() for row in rows for cell in row.split("|")]
    assert [cell for cell in cells if len(cell) > LONGEST_CELL] == []


def test_tree_of_the_code_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    [tree] = re.findall(r"```\n(worker\.py .*?)```", text, re.DOTALL)
    folders: dict[int, Path] = {}
    for indent, name in re.findall(r"^( *)(\S+)", tree, re.MULTILINE):
        path = folders.get(len(indent) - 2, ROOT) / name
        assert path.exists(), path
        folders[len(indent)] = path


def test_tests_of_defences_exist() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    listed = re.findall(r"^- `(\w+/.*?)`:? ?(.*)$", text, re.MULTILINE)
    assert listed
    for path, names in listed:
        file = ROOT / "tests" / path
        assert file.exists(), path
        for name in re.findall(r"`(\w+)`", names):
            assert f"def {name}(" in file.read_text(), f"{path}: {name}"


def test_code_of_defences_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    listed = re.findall(r"^Code: (.*)\.$", text, re.MULTILINE)
    defences = text.partition("\n## Input and output\n")[2]
    assert len(listed) == defences.count("\n### "), "each defence names its code"
    for entry in "; ".join(listed).split("; "):
        path, *names = re.findall(r"`(.+?)`", entry)
        code = (ROOT / path).read_text()
        for name in names:
            assert re.search(rf"(def|class) {name}\b", code), f"{path}: {name}"


def test_table_of_security_events_is_complete() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    [table] = re.findall(r"^\| event \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\| `(\S+)` \|", table, re.MULTILINE) == list(Event)
