"""Webhook endpoints and their deliveries through the API."""

from typing import Any

import pytest
from sqlalchemy import update

from smart_accounts.contract.webhooks import SUBSCRIBABLE, EndpointState
from smart_accounts.store.tables import webhook_endpoints
from smart_accounts.store.webhook_records import Attempt
from smart_accounts.store.webhooks import MAX_ENDPOINTS
from smart_accounts.webhooks.signing import unseal
from tests.support.api import Api, check_problem, errors_of
from tests.support.keys import KEY
from tests.support.webhook_scenes import RECEIVER, record_attempt
from tests.web.api.test_read import OPERATOR_CLAIMS

WEBHOOKS = "/api/v1/webhooks"
NEW = {"url": RECEIVER, "description": "Our CRM", "event_types": ["request.active"]}
UNKNOWN = f"{WEBHOOKS}/00000000-0000-4000-8000-000000000000"
UNAVAILABLE = Attempt(status_code=503, error="Status 503.", response="<b>", took_ms=9)


async def register(api: Api, headers: dict[str, str] | None = None, **changes: Any) -> str:
    """Register an endpoint and return its path."""
    response = await api.http.post(WEBHOOKS, json=NEW | changes, headers=headers)
    assert response.status_code == 201, response.text
    return str(response.headers["location"])


async def test_endpoint_from_registration_to_deletion(api: Api) -> None:
    response = await api.http.post(WEBHOOKS, json={"url": RECEIVER})
    created = response.json()
    path, secret = response.headers["location"], created.pop("secret")
    assert response.status_code == 201
    assert path == f"{WEBHOOKS}/{created['id']}"
    stored = await api.store.webhooks.find(created["id"])
    assert stored
    assert unseal([stored.sealed_secret], [KEY]) == [secret]
    assert created["event_types"] == list(SUBSCRIBABLE)
    assert (created["state"], created["description"]) == ("enabled", "")
    assert (await api.http.get(path)).json() == created
    assert (await api.http.get(WEBHOOKS)).json() == {"items": [created]}

    new = {"description": "Our ERP", "event_types": ["account.closed", "request.active"]}
    changed = (await api.http.patch(path, json=new)).json()
    assert changed == created | new | {"event_types": ["request.active", "account.closed"]}
    for state in ("paused", "paused", "enabled"):
        changed = (await api.http.patch(path, json={"state": state})).json()
        assert (changed["state"], changed["description"]) == (state, "Our ERP")

    rotated = (await api.http.post(f"{path}/rotate-secret")).json()
    assert rotated["secret"] not in (secret, "")
    assert rotated["previous_secret_until"]
    assert "secret" not in (await api.http.get(path)).json()

    deleted = await api.http.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    check_problem(await api.http.delete(path), 404)
    assert (await api.http.get(WEBHOOKS)).json() == {"items": []}


async def test_rejected_change_changes_nothing(api: Api) -> None:
    path = await register(api)
    async with api.store.engine.begin() as connection:
        await connection.execute(update(webhook_endpoints).values(state=EndpointState.DISABLED))
    before = (await api.http.get(path)).json()
    new = {"description": "Our ERP", "state": "paused"}
    problem = check_problem(await api.http.patch(path, json=new), 409)
    assert problem["detail"] == "The endpoint is disabled, so there is nothing to pause."
    assert (await api.http.get(path)).json() == before


async def test_deliveries_and_sending_again(api: Api) -> None:
    path = await register(api)
    queued = await api.http.post(f"{path}/ping")
    assert queued.status_code == 202
    delivery_id = queued.json()["delivery_id"]

    async def delivery() -> dict[str, Any]:
        [item] = (await api.http.get(f"{path}/deliveries")).json()["items"]
        return dict(item)

    waiting = await delivery()
    assert (waiting["id"], waiting["type"], waiting["state"]) == (delivery_id, "ping", "pending")
    await record_attempt(api.store, delivery_id, UNAVAILABLE)
    failing = await delivery()
    assert failing["webhook_id"] == waiting["webhook_id"]
    shown = ("state", "attempts", "status_code", "response", "took_ms")
    assert [failing[name] for name in shown] == ["pending", 1, 503, "<b>", 9]
    assert failing["next_at"] > failing["last_at"]
    resend = f"{path}/deliveries/{delivery_id}/resend"
    assert (await api.http.post(resend)).json() == {"delivery_id": delivery_id}
    assert (await delivery())["webhook_id"] == waiting["webhook_id"]
    check_problem(await api.http.post(f"{path}/deliveries/{UNKNOWN[-36:]}/resend"), 404)

    await api.http.patch(path, json={"state": "paused"})
    for each in (f"{path}/ping", resend):
        assert "paused" in check_problem(await api.http.post(each), 409)["detail"]


async def test_foreign_endpoint_looks_like_an_unknown_one(api: Api) -> None:
    path = await register(api)
    before = await api.store.webhooks.find(path[-36:])
    [ping] = [(await api.http.post(f"{path}/ping")).json()["delivery_id"]]
    kim = api.issuer.headers(sub="kim", email="kim@reseller.example")
    operator = api.issuer.headers(**OPERATOR_CLAIMS)
    for headers in (kim, operator):
        assert (await api.http.get(WEBHOOKS, headers=headers)).json() == {"items": []}
        for method, part, body in (
            ("GET", "", None),
            ("PATCH", "", {"url": "https://93.184.215.99/"}),
            ("DELETE", "", None),
            ("POST", "/rotate-secret", None),
            ("POST", "/ping", None),
            ("GET", "/deliveries", None),
            ("POST", f"/deliveries/{ping}/resend", None),
        ):
            foreign, unknown = [
                check_problem(
                    await api.http.request(method, each + part, json=body, headers=headers), 404
                )
                for each in (path, UNKNOWN)
            ]
            assert foreign == unknown
    assert await api.store.webhooks.find(path[-36:]) == before


async def test_only_operators_get_the_events_of_all_requests(api: Api) -> None:
    new = NEW | {"for_all_requests": True}
    check_problem(await api.http.post(WEBHOOKS, json=new), 403)
    operator = api.issuer.headers(**OPERATOR_CLAIMS)
    path = await register(api, operator, for_all_requests=True)
    other = api.issuer.headers(**OPERATOR_CLAIMS | {"sub": "otto", "email": "otto@x.example"})
    assert (await api.http.get(path, headers=other)).json()["for_all_requests"] is True
    no_longer = api.issuer.headers(**OPERATOR_CLAIMS | {"roles": []})
    check_problem(await api.http.get(path, headers=no_longer), 404)
    errors = errors_of(
        await api.http.patch(path, json={"for_all_requests": False}, headers=operator)
    )
    assert errors.keys() == {"for_all_requests"}


async def test_eleventh_endpoint_is_rejected(api: Api) -> None:
    for _ in range(MAX_ENDPOINTS):
        await register(api)
    problem = check_problem(await api.http.post(WEBHOOKS, json=NEW), 409)
    assert problem["detail"] == "You have 10 endpoints, which is the limit."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "https://10.0.0.1/"}, "This host has no public address. Check the URL."),
        ({"url": "https://[::ffff:169.254.169.254]/"}, "This host has no public address."),
        ({"url": "https://pat:secret@93.184.215.14/"}, "The URL must not have a user name"),
        ({"url": "x" * 2049}, "must have at most 2048 characters"),
        ({"url": None}, "must be text"),
        ({"description": "a\u202eb"}, "must not contain control or invisible characters"),
        ({"description": "x" * 201}, "must have at most 200 characters"),
        ({"event_types": []}, "must have at least one entry"),
        ({"event_types": ["ping"]}, "must not have ping, which every endpoint receives"),
        ({"event_types": ["request.opened"]}, "entry 1 must be"),
        ({"secret": "whsec_known"}, "is not a known field"),
    ],
)
async def test_each_wrong_field_has_one_message(
    api: Api, changes: dict[str, Any], message: str
) -> None:
    path = await register(api)
    for response in (
        await api.http.post(WEBHOOKS, json=NEW | changes),
        await api.http.patch(path, json=changes if changes != {"url": None} else {"url": 7}),
    ):
        [(field, shown)] = errors_of(response).items()
        assert [field] == list(changes)
        assert message in shown
    assert len((await api.http.get(WEBHOOKS)).json()["items"]) == 1
