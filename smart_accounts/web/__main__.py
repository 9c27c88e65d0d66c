"""The web server: ``python -m smart_accounts.web``."""

import asyncio
import logging
import signal
import sys

from smart_accounts.errors import BadSetting
from smart_accounts.settings import Settings, load_settings
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.gauges import keep_gauges
from smart_accounts.temporal.logs import set_up_logging
from smart_accounts.temporal.metrics import start_runtime, start_web_counters
from smart_accounts.temporal.process_exit import exit_process
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from smart_accounts.web.auth.provider import open_provider
from smart_accounts.web.http.server import Server, server_config
from smart_accounts.web.security_log import write_to_standard_output

_log = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Open responses are finished first."""
    runtime = start_runtime("SMART_ACCOUNTS_WEB_METRICS_ADDRESS", settings.web_metrics_address)
    meter = runtime.metric_meter
    start_web_counters(meter)
    client = await RequestClient.connect(lazy=True, runtime=runtime)
    async with (
        AccountStore.open(
            settings.database_url, settings.database_pool_size, settings.base_url
        ) as store,
        open_provider(settings) as provider,
        keep_gauges(meter, client, store),
    ):
        tokens = LinkTokens(settings.signing_keys)
        app = create_app(store, client, tokens, settings, provider, meter)
        config = server_config(
            app, host=settings.web_host, port=settings.web_port, log_level="info"
        )
        await Server(config, app.state.services.closing).serve()


def main() -> int:
    """Run the server and return the exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # After its shutdown, the server raises the signal again, which would kill this process.
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        settings = load_settings()
        set_up_logging(settings.log_format, sys.stderr)
        write_to_standard_output()
        asyncio.run(serve(settings))
    except BadSetting as error:
        print(error, file=sys.stderr)  # noqa: T201 - the one line that says what is wrong
        return 2
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception:  # noqa: BLE001 - it is logged, without the texts that may be personal
        _log.exception("The web server stopped.")
        return 1
    return 0


if __name__ == "__main__":
    exit_process(main())
