"""What an import reports about rows that end in an unusual way."""

from datetime import UTC, datetime

from smart_accounts.cli.csv_import import Import, Report, Result, Row
from smart_accounts.cli.exit_codes import ExitCode, exit_code_of
from smart_accounts.contract.messages import RequestStatus, SmartAccountRequest, Status
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.errors import domain_taken
from smart_accounts.temporal.records import Started


class RaisesErrors(RequestClient):
    """Raises an error at the start of a domain, or when its outcome is read."""

    def __init__(
        self,
        at_start: dict[str, Exception] | None = None,
        at_outcome: dict[str, Exception] | None = None,
    ) -> None:
        self._at_start = at_start or {}
        self._at_outcome = at_outcome or {}

    async def start(self, request: SmartAccountRequest, **_: object) -> Started:
        if error := self._at_start.get(request.account_domain):
            raise error
        return Started(request.account_domain, f"id of {request.account_domain}", datetime.now(UTC))

    async def outcome(self, started: Started) -> RequestStatus | None:
        if error := self._at_outcome.get(started.workflow_id):
            raise error
        return None


async def imported(client: RequestClient, *domains: str) -> Report:
    requester = {"email": "pat@partner.example", "name": "Pat Lee", "company": "Partner Ltd"}
    rows = []
    for number, domain in enumerate(domains, start=2):
        given = {"account_name": "Acme", "customer_email": f"ada@{domain}", "requester": requester}
        rows.append(Row(number=number, request=SmartAccountRequest.model_validate(given)))
    return await Import(client, lambda: None).run(rows)


async def test_row_whose_last_request_is_being_closed_is_rejected() -> None:
    taken = {
        "open.example": domain_taken("open.example", Status.PENDING),
        "closing.example": domain_taken("closing.example", Status.DECLINED),
    }
    report = await imported(RaisesErrors(at_start=taken), "open.example")
    assert [each.result for each in report.outcomes] == [Result.ALREADY_OPEN]
    assert exit_code_of(report) is ExitCode.DONE

    report = await imported(RaisesErrors(at_start=taken), *taken)
    assert [each.result for each in report.outcomes] == [Result.ALREADY_OPEN, Result.REJECTED]
    assert exit_code_of(report) is ExitCode.REJECTED
    assert "Try again in at most 60 minutes." in str(report.outcomes[1].message)
