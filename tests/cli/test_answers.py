"""The customer's answer from the command line, after the request's workflow has closed."""

from datetime import UTC, datetime, timedelta

import pytest

from smart_accounts.cli import answers
from smart_accounts.contract.messages import RequestStatus, Status
from smart_accounts.errors import NotFound, Rejected
from tests.support.fake_temporal import FakeTemporal

NOW = datetime.now(UTC)


@pytest.fixture
def closed() -> FakeTemporal:
    temporal = FakeTemporal()
    temporal.error = NotFound("There is no open request with this id.")
    return temporal


async def accept(temporal: FakeTemporal, status: Status) -> None:
    temporal.live_status = RequestStatus(
        status=status,
        account_name="Acme",
        account_domain="acme.example",
        deadline=NOW + timedelta(days=90),
        requested_at=NOW,
    )
    id_ = "smart-account-acme.example"
    await answers.send(temporal, id_, temporal.accept(id_), [Status.ACTIVE], as_json=False)


async def test_same_answer_again_succeeds(
    closed: FakeTemporal, capsys: pytest.CaptureFixture[str]
) -> None:
    await accept(closed, Status.ACTIVE)
    assert capsys.readouterr().out == "Received. The request for acme.example is active.\n"


async def test_other_decision_is_told(closed: FakeTemporal) -> None:
    with pytest.raises(Rejected, match="The request is lapsed"):
        await accept(closed, Status.LAPSED)


async def test_terminated_request_has_no_decision(closed: FakeTemporal) -> None:
    with pytest.raises(NotFound, match="the request has ended"):
        await accept(closed, Status.PENDING)
