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
