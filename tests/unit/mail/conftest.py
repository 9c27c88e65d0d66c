"""A scripted SMTP server that listens."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.scripted_smtp_server import ScriptedServer


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
async def port(server: ScriptedServer) -> AsyncIterator[int]:
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    for connection in server.connections:
        connection.writer.transport.abort()
        await connection.closed.wait()
