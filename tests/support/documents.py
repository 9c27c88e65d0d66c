"""The code blocks of documents that tests run as they are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def code_block(document: str, name: str) -> str:
    """Return the code block that follows ``<!-- tested: NAME -->`` in a document."""
    text = (ROOT / document).read_text()
    found = re.findall(rf"<!-- tested: {re.escape(name)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert len(found) == 1, f"{document}: {name}"
    return str(found[0])


def anchors_of(document: Path) -> list[str]:
    """Return the fragments that lead to the headings of a document on GitHub and GitLab."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]
