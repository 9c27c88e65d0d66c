"""The arguments and options that several commands share."""

from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.fields import AccountDomain
from smart_accounts.contract.names import workflow_id
from smart_accounts.version import describe


def parse_domain(text: str) -> str:
    """Return the workflow id of a request, given that id or the account domain."""
    try:
        domain = TypeAdapter(AccountDomain).validate_python(text.removeprefix(workflow_id("")))
    except ValidationError as error:
        raise typer.BadParameter(f"It {field_errors(error)[0].message}.") from None
    return workflow_id(domain)


def show_version(wanted: bool) -> None:
    """Print the version and end the program if the option is given."""
    if wanted:
        typer.echo(describe())
        raise typer.Exit


WorkflowId = Annotated[
    str,
    typer.Argument(
        metavar="DOMAIN", parser=parse_domain, help="The account domain or the workflow id."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, also for errors.")]
Version = Annotated[
    bool,
    typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
]
