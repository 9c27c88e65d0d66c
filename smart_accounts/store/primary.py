"""Connections to the PostgreSQL server that accepts writes, also after a switchover.

After a switchover, the former primary may keep its connections or accept new ones, but it rejects
every write. asyncpg's ``target_session_attrs`` is not enough: it looks only at new connections, at
what the server or pgbouncer reported when the connection began.
"""

import logging
from functools import partial
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine

CONNECT_SECONDS = 5  # per server, so that a server that is down leaves time for the others
CHECK_SECONDS = 5

_log = logging.getLogger(__name__)


def follow_primary(engine: AsyncEngine) -> None:
    """Make the engine use the first server of its URL that accepts writes."""
    _, options = engine.dialect.create_connect_args(engine.url)
    host, port = options.get("host"), options.get("port")
    servers: list[tuple[Any, Any]] = [(host, port)]
    if isinstance(host, list) and isinstance(port, list):
        servers = list(zip(host, port, strict=True))
    next_server = 0

    @event.listens_for(engine.sync_engine, "do_connect")
    def _on_connect(dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> Any:
        nonlocal next_server
        failure: Exception | None = None
        for number in range(next_server, next_server + len(servers)):
            # If the caller gives up while this server does not respond, the next call must not
            # begin with this server again.
            next_server = (number + 1) % len(servers)
            host, port = servers[number % len(servers)]
            try:
                connection = _connect(dialect, options | {"host": host, "port": port})
            except (OSError, dialect.loaded_dbapi.Error) as error:
                failure = error
            else:
                next_server = number % len(servers)
                return connection
        assert failure
        raise failure

    @event.listens_for(engine.sync_engine, "checkout")
    def _on_checkout(connection: Any, record: Any, _proxy: Any) -> None:
        try:
            connection.run_async(partial(_require_writable, kept=record.info))
        except OSError as error:
            _log.warning("Connecting to the database again: %s", error)
            raise InvalidatePoolError from error


def _connect(dialect: Any, options: dict[str, Any]) -> Any:
    connection = dialect.connect(**options)
    try:
        connection.run_async(partial(_require_writable, kept={}))
    except BaseException:
        dialect.do_terminate(connection)
        raise
    return connection


async def _require_writable(connection: asyncpg.Connection, kept: dict[str, Any]) -> None:
    """Raise ``OSError`` if the connection is broken, or if its server rejects writes.

    ``kept`` keeps the prepared query of this connection, which saves a round trip.
    """
    try:
        if "read_only" not in kept:
            query = "SHOW transaction_read_only"
            kept["read_only"] = await connection.prepare(query, timeout=CHECK_SECONDS)
        read_only = await kept["read_only"].fetchval(timeout=CHECK_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise ConnectionError("The connection is closed.") from error
    if read_only != "off":
        raise ConnectionError("The server does not accept writes.")
