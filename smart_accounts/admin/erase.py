"""Erase a person's data from the database and from Temporal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from smart_accounts.admin.erased_list import SETTING, ErasedList
from smart_accounts.admin.eraser import NOT_REACHED, Eraser
from smart_accounts.cli import output
from smart_accounts.cli.asynchronous import asynchronous
from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.contract.fields import EmailAddress
from smart_accounts.errors import BadSetting
from smart_accounts.settings import load_settings
from smart_accounts.store.database import create_engine
from smart_accounts.store.store import AccountStore
from smart_accounts.sweep.executions import Executions
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.connection import connect
from smart_accounts.temporal.erasures import Erasures
from smart_accounts.temporal.histories import Histories


@asynchronous
async def erase(
    email: Annotated[
        str | None,
        typer.Option(help="An address of the person. All addresses of its mailbox are erased."),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="After a restore: erase everyone on the list of erased."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be erased.")
    ] = False,
) -> None:
    """
    Erase a person's data from the database and from Temporal.

    Open requests that name the person are withdrawn, and an active account of which they are the
    approver must be closed first. It is safe to interrupt the command and to run it again.
    """
    if (email is None) is not again:
        raise BadInput([FieldError(field="email", message="is required, or else --again")])
    given = None if email is None else _mailbox(email)
    async with _open_eraser() as eraser:
        if given is None:
            await eraser.erase_listed(dry_run=dry_run)
        elif dry_run:
            await eraser.show_plan(given)
        else:
            await eraser.erase(given)
            output.show(NOT_REACHED)


def _mailbox(email: str) -> str:
    try:
        return mailbox(TypeAdapter(EmailAddress).validate_python(email))
    except ValidationError as error:
        message = field_errors(error)[0].message
        raise BadInput([FieldError(field="email", message=message)]) from None


@asynccontextmanager
async def _open_eraser() -> AsyncIterator[Eraser]:
    settings = load_settings()
    if settings.erased_list is None:
        raise BadSetting(f"{SETTING}: is required to erase. It names a file outside the database.")
    client = await connect()
    engine = create_engine(settings.database_url, may_take_long=True)
    try:
        store = AccountStore(engine)
        await store.ping()
        namespace = await store.comparison.namespace()
        if namespace not in (None, await Executions(client).namespace_id()):
            raise BadSetting("TEMPORAL_NAMESPACE: the requests of this database run in another one")
        erased = ErasedList(settings.erased_list, settings.signing_keys)
        yield Eraser(store, RequestClient(client), Histories(client), Erasures(client), erased)
    finally:
        await engine.dispose()
