"""Composition root of the web: ``python -m smart_accounts.web``."""

import asyncio
import logging
import os
import signal
import sys

import uvicorn

from smart_accounts.errors import BadSetting
from smart_accounts.settings import Settings, load_settings
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from smart_accounts.web.auth.provider import open_provider
from smart_accounts.web.http.server import Server

SHUTDOWN_SECONDS = 5


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; what is being answered then is answered first."""
    tokens = LinkTokens([key.get_secret_value() for key in settings.secret_keys])
    async with (
        AccountStore.open(settings.database_url) as store,
        open_provider(settings) as provider,
    ):
        client = await RequestClient.connect(lazy=True)
        app = create_app(store, client, tokens, settings, provider)
        config = uvicorn.Config(
            app,
            host=settings.web_host,
            port=settings.web_port,
            access_log=False,  # paths hold the links' tokens
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        await Server(config, app.state.closing).serve()


def main() -> int:
    """The exit status."""
    for each in (signal.SIGTERM, signal.SIGINT):
        # The server ends in order, then raises the signal again, which would end us by it.
        signal.signal(each, lambda *_: sys.exit(0))
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(load_settings()))
    except BadSetting as error:
        print(error, file=sys.stderr)  # noqa: T201 - the one line for whoever started it
        return 2
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # Temporal's threads can crash an interpreter that finalizes under them
