"""HTTP requests to the parts of the stack: no proxy, no redirects, a short timeout."""

import asyncio
from collections.abc import Mapping
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit


async def request(url: str, form: Mapping[str, str] | None = None) -> tuple[int, str]:
    """GET the URL, or POST the form to it. Return the status and the body.

    Raises:
        OSError: there was no response in time.
    """
    return await asyncio.to_thread(_request, url, form)


def _request(url: str, form: Mapping[str, str] | None) -> tuple[int, str]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=5)
    try:
        if form is None:
            connection.request("GET", parts.path or "/")
        else:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", parts.path, urlencode(form), headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
