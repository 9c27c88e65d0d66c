"""Every answer of the API: its status, its media type, and what a program can do with it."""

import asyncio
import socket
import time
from typing import Any
from uuid import uuid4

import pytest

from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import Status
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.temporal.client import RPC_TIMEOUT, RequestClient
from smart_accounts.web.api import routes

REQUESTS = "/api/v1/requests"
ACME = f"{REQUESTS}/smart-account-acme.example"
OTHER = {"sub": "kim", "email": "kim@reseller.example", "company": "Reseller"}
OPERATOR = OTHER | {"roles": ["smart-accounts-operator"]}


def check_problem(answer: Any, status: int) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert problem["title"]
    assert ("errors" in problem) == (status == 422)
    assert "Traceback" not in answer.text
    return problem


def errors_of(answer: Any) -> dict[str, str]:
    return {each["field"]: each["message"] for each in check_problem(answer, 422)["errors"]}


# ---- making a request ------------------------------------------------------------------------


async def test_made_request_is_shown_where_location_says(api: Any) -> None:
    made = await api.http.post(REQUESTS, json=api.body)
    assert made.status_code == 201
    shown = made.json()
    assert (shown["status"], shown["workflow_id"]) == ("requested", "smart-account-acme.example")
    assert made.headers["location"] == f"{ACME}?run={shown['request_id']}"
    assert (await api.http.get(made.headers["location"])).json() == shown
    assert (await api.http.get(ACME)).json() == shown
    running, _ = api.temporal.running["smart-account-acme.example"]
    requester = running.request.requester
    assert (requester.email, requester.company) == ("pat@partner.example", "Partner Ltd")
    assert running.request.user_emails == ("bo@acme.example",)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"account_name": None}, {"account_name": "is required"}),
        ({"account_name": 7}, {"account_name": "must be text"}),
        ({"customer_email": "ada"}, {"customer_email": "must be one email address"}),
        ({"customer_email": "Pat@partner.example"}, {"customer_email": "must differ"}),
        ({"user_emails": "bo@acme.example"}, {"user_emails": "must be a list"}),
        ({"user_emails": ["bo", "cy@acme.example"]}, {"user_emails": "entry 1 must be"}),
        ({"acceptance_window": "P1D"}, {"acceptance_window": "is not a field"}),
        ({"reminders": []}, {"reminders": "is not a field"}),
        ({"requester": {"email": "eve@evil.example"}}, {"requester": "is not a field"}),
        ({"<script>": 1}, {"?": "is not a field"}),
        (
            {"account_name": "a<b", "account_domain": "co.uk", "note_to_customer": "\u202e"},
            {"account_name": "<", "account_domain": "suffix", "note_to_customer": "control"},
        ),
    ],
)
async def test_bad_fields_have_one_error_each_and_start_nothing(
    api: Any, change: dict[str, Any], expected: dict[str, str]
) -> None:
    found = errors_of(await api.http.post(REQUESTS, json=api.body | change))
    assert found.keys() == expected.keys()
    assert all(expected[name] in found[name] for name in found)
    assert not api.temporal.running


@pytest.mark.parametrize("optional", ["account_domain", "note_to_customer", "user_emails"])
async def test_null_is_absent(api: Any, optional: str) -> None:
    made = await api.http.post(REQUESTS, json=api.body | {optional: None})
    assert made.status_code == 201


async def test_domain_that_is_open_or_active_or_too_much_is_refused(api: Any) -> None:
    await api.http.post(REQUESTS, json=api.body)
    again = await api.http.post(REQUESTS, json=api.body)
    assert "under way" in check_problem(again, 409)["detail"]
    await api.ends(Status.ACTIVE)
    taken = await api.http.post(REQUESTS, json=api.body)
    assert "already has an active" in check_problem(taken, 409)["detail"]
    for number in range(5):
        domain = f"acme-{number}.example"
        await api.http.post(REQUESTS, json=api.body | {"account_domain": domain})
        await api.worker_stores(f"smart-account-{domain}")
    many = await api.http.post(REQUESTS, json=api.body | {"account_domain": "acme-5.example"})
    assert "5 open requests" in check_problem(many, 409)["detail"]


# ---- bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [REQUESTS, f"{ACME}/replace-approver", f"{ACME}/withdraw"])
@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b'{"a": "\xff"}', "application/json", 400),
        (b"[]", "application/json; charset=utf-8", 422),
        (b"7", "Application/JSON", 422),
        (b'{"account_name": "\\ud800"}', "application/json", 422),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"x" * (16 * 1024 + 1), "application/json", 413),
        (b"x" * (16 * 1024 + 1), "text/plain", 413),
    ],
)
async def test_bodies_that_are_not_read(
    api: Any, path: str, content: bytes, media_type: str, status: int
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    check_problem(await api.http.post(path, content=content, headers=headers), status)


async def test_body_without_a_length_is_cut_off(api: Any) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 1024

    check_problem(await api.http.post(REQUESTS, content=endless()), 413)


@pytest.mark.parametrize(
    "path", ["/api/", "/api/v2/requests", f"{REQUESTS}/", f"{ACME}/accept", "/api/openapi.json"]
)
async def test_what_is_not_there_is_a_problem(api: Any, path: str) -> None:
    for method in ("GET", "POST"):
        check_problem(await api.http.request(method, path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", ACME, "GET"),
        ("PUT", REQUESTS, "GET, POST"),
        ("OPTIONS", REQUESTS, "GET, POST"),
        ("GET", f"{ACME}/withdraw", "POST"),
    ],
)
async def test_what_cannot_be_done_says_what_can(
    api: Any, method: str, path: str, allowed: str
) -> None:
    answer = await api.http.request(method, path)
    check_problem(answer, 405)
    assert answer.headers["allow"] == allowed


# ---- looking ---------------------------------------------------------------------------------


async def test_foreign_request_is_not_there(api: Any) -> None:
    await api.http.post(REQUESTS, json=api.body)
    unknown = await api.http.get(f"{REQUESTS}/smart-account-unknown.example")
    for stored in (False, True):
        run = f"?run={await api.worker_stores()}" if stored else ""
        for method, path in [
            ("GET", ACME + run),
            ("POST", f"{ACME}/resend{run}"),
            ("POST", f"{ACME}/withdraw{run}"),
        ]:
            answer = await api.http.request(method, path, headers=api.as_(**OTHER))
            assert check_problem(answer, 404) == unknown.json()
        seen = await api.http.get(ACME + run, headers=api.as_(**OPERATOR))
        assert seen.status_code == 200
    listed = (await api.http.get(REQUESTS, headers=api.as_(**OTHER))).json()
    assert (listed["items"], listed["total"]) == ([], 0)
    assert (await api.http.get(REQUESTS, headers=api.as_(**OPERATOR))).json()["total"] == 1
    assert not api.temporal.actions


@pytest.mark.parametrize("name", ["smart-account-", "x", "smart-account-%00", "smart-account-A b"])
async def test_name_of_no_request_is_not_there(api: Any, name: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(api.store.listing, "newest", None)  # PostgreSQL takes no NUL
    check_problem(await api.http.get(f"{REQUESTS}/{name}"), 404)


async def test_newest_request_is_shown_and_older_ones_by_their_run(api: Any) -> None:
    await api.http.post(REQUESTS, json=api.body)
    first = await api.ends(Status.WITHDRAWN)
    assert (await api.http.get(ACME)).json()["status"] == "withdrawn"
    second = (await api.http.post(REQUESTS, json=api.body)).json()["request_id"]
    for stored in (False, True):  # before and after a worker has seen it
        if stored:
            await api.worker_stores()
        newest = (await api.http.get(ACME)).json()
        assert newest["request_id"] == second
        assert newest["status"] == ("pending" if stored else "requested")
    older = (await api.http.get(ACME, params={"run": first})).json()
    assert (older["request_id"], older["status"]) == (first, "withdrawn")
    assert older["decided_by"] == "requester"
    check_problem(await api.http.get(ACME, params={"run": str(uuid4())}), 404)


async def test_other_partners_newer_request_hides_nothing_and_shows_nothing(api: Any) -> None:
    await api.http.post(REQUESTS, json=api.body)
    first = await api.ends(Status.WITHDRAWN)
    await api.http.post(REQUESTS, json=api.body, headers=api.as_(**OTHER))
    assert (await api.http.get(ACME)).json()["request_id"] == first


async def test_list_is_filtered_and_paged(api: Any) -> None:
    for number in range(3):
        domain = f"firm-{number}.example"
        body = api.body | {"account_domain": domain, "account_name": f"Firm {number}"}
        await api.http.post(REQUESTS, json=body)
        await api.worker_stores(f"smart-account-{domain}")
    await api.ends(Status.WITHDRAWN, "smart-account-firm-2.example")

    page = (await api.http.get(REQUESTS, params={"limit": 2, "search": "FIRM"})).json()
    assert [each["account_name"] for each in page["items"]] == ["Firm 2", "Firm 1"]
    assert (page["total"], page["page"], page["limit"]) == (3, 1, 2)
    assert page["items"][0]["last_email"] is None
    last = (await api.http.get(page["next"])).json()
    assert [each["account_name"] for each in last["items"]] == ["Firm 0"]
    assert last["next"] is None
    ended = (await api.http.get(REQUESTS, params={"status": "withdrawn"})).json()
    assert [each["account_name"] for each in ended["items"]] == ["Firm 2"]
    beyond = (await api.http.get(REQUESTS, params={"page": 9})).json()
    assert (beyond["items"], beyond["total"], beyond["next"]) == ([], 3, None)


@pytest.mark.parametrize(
    ("path", "parameter", "value"),
    [
        (REQUESTS, "limit", "0"),
        (REQUESTS, "limit", "101"),
        (REQUESTS, "page", "0"),
        (REQUESTS, "page", "99999999999999999999"),
        (REQUESTS, "status", "open"),
        (REQUESTS, "search", "a\0"),
        (REQUESTS, "search", "a" * 255),
        (REQUESTS, "staus", "pending"),
        (ACME, "run", "latest"),
        (ACME, "rnu", "x"),
    ],
)
async def test_bad_parameters_are_named(api: Any, path: str, parameter: str, value: str) -> None:
    assert errors_of(await api.http.get(path, params={parameter: value})).keys() == {parameter}


# ---- acting ----------------------------------------------------------------------------------

ACTS: dict[str, Any] = {
    "resend": None,
    "replace-approver": {"customer_email": "cy@acme.example"},
    "withdraw": {"reason": "No longer needed."},
}


@pytest.mark.parametrize("action", ACTS)
async def test_action_reaches_the_very_run(api: Any, action: str) -> None:
    await api.http.post(REQUESTS, json=api.body)
    run = await api.worker_stores()
    taken = await api.http.post(f"{ACME}/{action}", json=ACTS[action])
    assert taken.status_code == 200
    assert taken.json() == {
        "workflow_id": "smart-account-acme.example",
        "request_id": run,
        "status": "pending",
        "message": "Done.",
    }
    name, _, *which = api.temporal.actions[0]
    assert (name, which) == (action, ["smart-account-acme.example", run])


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"reason": null}'])
async def test_withdrawal_needs_no_reason(api: Any, body: bytes) -> None:
    await api.http.post(REQUESTS, json=api.body)
    headers = {"Content-Type": "application/json"} if body else {}
    taken = await api.http.post(f"{ACME}/withdraw", content=body, headers=headers)
    assert taken.status_code == 200
    assert api.temporal.actions[0][1] is None


@pytest.mark.parametrize("action", ACTS)
@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (Rejected("Too late."), 409),
        (NotFound("There is no open request there."), 409),
        (BadInput([FieldError(field="customer_email", message="is bad")]), 422),
        (Unavailable("No answer yet."), 503),
    ],
)
async def test_action_that_is_not_taken(
    api: Any, action: str, raised: Exception, status: int
) -> None:
    await api.http.post(REQUESTS, json=api.body)
    api.temporal.rejects = raised
    check_problem(await api.http.post(f"{ACME}/{action}", json=ACTS[action]), status)


@pytest.mark.parametrize("action", ACTS)
async def test_nothing_is_done_to_a_request_that_has_ended(api: Any, action: str) -> None:
    await api.http.post(REQUESTS, json=api.body)
    await api.ends(Status.DECLINED)
    answer = await api.http.post(f"{ACME}/{action}", json=ACTS[action])
    assert "declined already" in check_problem(answer, 409)["detail"]
    assert not api.temporal.actions


async def test_bad_new_approver(api: Any) -> None:
    path = f"{ACME}/replace-approver"
    assert errors_of(await api.http.post(path, json={})).keys() == {"customer_email"}
    assert errors_of(await api.http.post(path)).keys() == {"request"}
    both = {"customer_email": "cy@acme.example", "reason": "x"}
    assert errors_of(await api.http.post(path, json=both)).keys() == {"reason"}


# ---- outages ---------------------------------------------------------------------------------


async def test_outage_says_when_to_try_again(api: Any) -> None:
    api.temporal.fails = Unavailable("Temporal does not answer; nothing was lost, try again.")
    for method, path, body in [
        ("POST", REQUESTS, api.body),
        ("GET", ACME, None),
        ("POST", f"{ACME}/resend", None),
    ]:
        answer = await api.http.request(method, path, json=body)
        check_problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0


async def test_fault_is_told_without_its_secrets(api: Any, monkeypatch: Any) -> None:
    async def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(api.store.listing, "page", breaks)
    answer = await api.http.get(REQUESTS)
    check_problem(answer, 500)
    assert "secret detail" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("away", ["refuses", "hangs"])
async def test_temporal_that_is_away_costs_two_seconds_at_most(
    api: Any, api_on: Any, monkeypatch: Any, away: str, promised: None
) -> None:
    await api.http.post(REQUESTS, json=api.body)
    await api.worker_stores()
    other = api.body | {"account_domain": "other.example"}
    assert max(routes.START_SECONDS, RPC_TIMEOUT.total_seconds()) <= 2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if away == "refuses":
            silent.close()
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{port}")
        client = await RequestClient.connect(lazy=True)
        async with api_on(client) as http:
            await http.get(REQUESTS)  # the issuer's keys are another matter
            for path, body in ((REQUESTS, other), (f"{ACME}/resend", None)):
                began = time.monotonic()
                answer = await http.post(path, json=body)
                took = time.monotonic() - began
                check_problem(answer, 503)
                assert int(answer.headers["retry-after"]) > 0
                assert took < 5, took  # a busy machine's two


async def test_start_that_hangs_is_given_up(api: Any, monkeypatch: Any, promised: None) -> None:
    async def hangs(*_: Any, **__: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(api.temporal, "start", hangs)
    async with asyncio.timeout(5):  # a busy machine's two
        answer = await api.http.post(REQUESTS, json=api.body)
    assert "same key" in check_problem(answer, 503)["detail"]
