"""What a page shows, and what its forms send."""

import re
from html import unescape

import httpx


def visible_text(response: httpx.Response) -> str:
    """Return the text of a page on one line, without its tags."""
    text = re.sub("</?(bdi|time)[^>]*>", "", response.text)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def hidden_fields(response: httpx.Response) -> dict[str, str]:
    found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', response.text)
    return {name: unescape(value) for name, value in found}
