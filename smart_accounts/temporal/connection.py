"""The connection to Temporal."""

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.names import SEARCH_ATTRIBUTES
from smart_accounts.errors import BadSetting, Unavailable
from smart_accounts.settings import load_client_settings
from smart_accounts.temporal.codec import client_data_converter
from smart_accounts.temporal.errors import QUERY_TIMEOUT, time_limit


async def connect(
    *,
    lazy: bool = False,
    data_converter: DataConverter | None = None,
    runtime: Runtime | None = None,
) -> Client:
    """Return a client of the server that the ``TEMPORAL_*`` variables name.

    Only a worker gives a converter. All other programs encrypt and decrypt as the settings say.

    Raises:
        BadSetting: A variable cannot be used.
        Unavailable: The server does not respond. With ``lazy``, the first call raises this.
    """
    try:
        config = ClientConfig.load_client_connect_config()
    except RuntimeError as error:
        raise BadSetting(f"bad TEMPORAL_ settings: {error}") from None
    config.setdefault("target_host", "localhost:7233")
    converter = data_converter or client_data_converter(load_client_settings())
    try:
        async with time_limit(QUERY_TIMEOUT):
            return await Client.connect(
                **config, data_converter=converter, lazy=lazy, runtime=runtime
            )
    except ValueError as error:
        raise BadSetting(f"bad TEMPORAL_ settings: {error}") from None


async def require_search_attributes(client: Client) -> None:
    """Check that the namespace has our search attributes. Without them, a start would hang.

    Raises:
        BadSetting: One or more are missing. The message says how to add them.
        Unavailable: The server does not respond.
    """
    try:
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
    except RPCError as error:
        if error.status in (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED):
            return  # this server does not list its search attributes
        if error.status == RPCStatusCode.NOT_FOUND:
            raise BadSetting(f"Temporal has no namespace {client.namespace}") from None
        raise Unavailable("Temporal does not respond.") from error
    missing = [name for name in SEARCH_ATTRIBUTES if name not in known.custom_attributes]
    if missing:
        flags = " ".join(f"--name {name} --type {SEARCH_ATTRIBUTES[name]}" for name in missing)
        raise BadSetting(
            f"Temporal's namespace {client.namespace} lacks search attributes. Add them with: "
            f"temporal operator search-attribute create {flags}"
        )
