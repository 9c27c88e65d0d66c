"""HTTP calls to the stack's own parts: no proxy, no redirect followed, short time-outs."""

import asyncio
from collections.abc import Mapping
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit


async def call(url: str, form: Mapping[str, str] | None = None) -> tuple[int, str]:
    """GET the URL, or POST the form to it; return the status and the body.

    Raises:
        OSError: nothing answers, or not in time.
    """
    return await asyncio.to_thread(_call, url, form)


def _call(url: str, form: Mapping[str, str] | None) -> tuple[int, str]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=5)
    try:
        if form is None:
            connection.request("GET", parts.path or "/")
        else:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", parts.path, urlencode(form), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
