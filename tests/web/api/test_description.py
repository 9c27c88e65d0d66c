"""The description of the API, for programs and for people."""

import json
import re
from typing import Any

from smart_accounts.contract.messages import AccountDetails
from smart_accounts.contract.webhooks import EventType
from smart_accounts.web.api.models import NewApprover, NewClosing, Rejection, Withdrawal
from smart_accounts.web.api.webhook_events import PingEvent, RequestEvent
from smart_accounts.web.api.webhook_models import NewWebhook, WebhookChange
from tests.support.api import Api
from tests.support.webhook_scenes import RECEIVER

OPERATIONS = {
    ("post", "/api/v1/requests"),
    ("get", "/api/v1/requests"),
    ("get", "/api/v1/requests/{workflow_id}"),
    ("post", "/api/v1/requests/{workflow_id}/resend"),
    ("post", "/api/v1/requests/{workflow_id}/replace-approver"),
    ("post", "/api/v1/requests/{workflow_id}/withdraw"),
    ("post", "/api/v1/requests/{workflow_id}/approve"),
    ("post", "/api/v1/requests/{workflow_id}/reject"),
    ("post", "/api/v1/requests/{workflow_id}/close"),
    ("post", "/api/v1/webhooks"),
    ("get", "/api/v1/webhooks"),
    ("get", "/api/v1/webhooks/{webhook_id}"),
    ("patch", "/api/v1/webhooks/{webhook_id}"),
    ("delete", "/api/v1/webhooks/{webhook_id}"),
    ("post", "/api/v1/webhooks/{webhook_id}/rotate-secret"),
    ("post", "/api/v1/webhooks/{webhook_id}/ping"),
    ("get", "/api/v1/webhooks/{webhook_id}/deliveries"),
    ("post", "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend"),
}


async def openapi_document(api: Api) -> dict[str, Any]:
    response = await api.http.get("/openapi.json", headers={"Authorization": ""})
    assert response.headers["content-type"] == "application/json"
    document: dict[str, Any] = response.json()
    return document


async def test_every_operation_lists_its_errors_and_needs_a_token(api: Api) -> None:
    document = await openapi_document(api)
    found = {(method, path) for path, item in document["paths"].items() for method in item}
    assert found == OPERATIONS
    assert document["servers"] == [{"url": "https://accounts.example"}]
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["security"] == [{"accessToken": []}]
            assert {"401", "403", "422", "500", "503"} <= operation["responses"].keys()
            for status, response in operation["responses"].items():
                if status == "204":
                    assert "content" not in response
                    continue
                [media_type] = response["content"]
                kind = "application/problem+json" if status >= "400" else "application/json"
                assert media_type == kind
                if status >= "400":
                    example = response["content"][media_type]["example"]
                    assert str(example["status"]) == status


async def test_schemas_match_the_models(api: Api) -> None:
    schemas = (await openapi_document(api))["components"]["schemas"]
    for name, model in (
        ("NewRequest", AccountDetails),
        ("NewApprover", NewApprover),
        ("Withdrawal", Withdrawal),
        ("NewClosing", NewClosing),
        ("NewWebhook", NewWebhook),
        ("WebhookChange", WebhookChange),
        ("Rejection", Rejection),
    ):
        assert schemas[name]["properties"].keys() == model.model_fields.keys()
        assert schemas[name]["additionalProperties"] is False
        required = {field for field, info in model.model_fields.items() if info.is_required()}
        assert set(schemas[name].get("required", ())) == required
    example = schemas["NewRequest"]["examples"][0]
    assert (await api.http.post("/api/v1/requests", json=example)).status_code == 201


async def test_page_lists_every_operation_and_loads_nothing_foreign(api: Api) -> None:
    page = await api.http.get("/docs")
    assert page.status_code == 200
    for method, path in OPERATIONS:
        assert f"{method.upper()} {path}" in page.text
    for words in ("Idempotency-Key", "account_name", "reason", "smart-accounts", "503"):
        assert words in page.text
    assert "<code>&lt;</code>" in page.text
    assert "`" not in page.text
    assert "<script>" not in page.text
    assert not re.findall(r"""(?:src|href)=["'](?!/)""", page.text)
    assert len(page.content) < 60 * 1024


async def test_webhooks_section_describes_what_is_sent(api: Api) -> None:
    document = await openapi_document(api)
    assert list(document["webhooks"]) == list(EventType)
    created = await api.http.post("/api/v1/webhooks", json={"url": RECEIVER})
    path = created.headers["location"]
    await api.http.post(f"{path}/ping")
    await api.http.post("/api/v1/requests", json=api.body)
    await api.store_running_request()
    sent = await api.store.webhooks.deliveries(created.json()["id"])
    assert {each.type for each in sent} == {EventType.PING, EventType.PENDING}
    for delivery in sent:
        body = document["webhooks"][delivery.type]["post"]["requestBody"]
        reference, only = body["content"]["application/cloudevents+json"]["schema"]["allOf"]
        assert only == {"properties": {"type": {"const": delivery.type}}}
        model = PingEvent if delivery.type == EventType.PING else RequestEvent
        assert reference == {"$ref": f"#/components/schemas/{model.__name__}"}
        event = model.model_validate_json(delivery.body)
        # Every field is described, and every field that is described is sent.
        assert event.model_dump(mode="json").keys() == json.loads(delivery.body).keys()
        assert event.data.model_dump().keys() == json.loads(delivery.body)["data"].keys()
        assert event.id == delivery.event_id
