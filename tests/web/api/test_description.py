"""The API's description: for programs and for people, and nothing of it from elsewhere."""

import re
from typing import Any

from smart_accounts.contract.messages import AccountWish, NewApprover, Withdrawal

OPERATIONS = {
    ("post", "/api/v1/requests"),
    ("get", "/api/v1/requests"),
    ("get", "/api/v1/requests/{workflow_id}"),
    ("post", "/api/v1/requests/{workflow_id}/resend"),
    ("post", "/api/v1/requests/{workflow_id}/replace-approver"),
    ("post", "/api/v1/requests/{workflow_id}/withdraw"),
}


async def described(api: Any) -> dict[str, Any]:
    answer = await api.http.get("/openapi.json", headers={"Authorization": ""})
    assert answer.headers["content-type"] == "application/json"
    document: dict[str, Any] = answer.json()
    return document


async def test_every_operation_names_its_errors_and_wants_a_token(api: Any) -> None:
    document = await described(api)
    found = {(method, path) for path, item in document["paths"].items() for method in item}
    assert found == OPERATIONS
    assert document["servers"] == [{"url": "https://accounts.example"}]
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["security"] == [{"accessToken": []}]
            assert {"401", "403", "422", "500", "503"} <= operation["responses"].keys()
            for status, answer in operation["responses"].items():
                [media_type] = answer["content"]
                kind = "application/problem+json" if status >= "400" else "application/json"
                assert media_type == kind
                if status >= "400":
                    example = answer["content"][media_type]["example"]
                    assert str(example["status"]) == status


async def test_bodies_are_described_as_they_are_read(api: Any) -> None:
    schemas = (await described(api))["components"]["schemas"]
    for name, model in (
        ("NewRequest", AccountWish),
        ("NewApprover", NewApprover),
        ("Withdrawal", Withdrawal),
    ):
        assert schemas[name]["properties"].keys() == model.model_fields.keys()
        assert schemas[name]["additionalProperties"] is False
        required = {field for field, info in model.model_fields.items() if info.is_required()}
        assert set(schemas[name].get("required", ())) == required
    example = schemas["NewRequest"]["examples"][0]
    assert (await api.http.post("/api/v1/requests", json=example)).status_code == 201


async def test_page_tells_every_operation_and_loads_nothing_from_elsewhere(api: Any) -> None:
    page = await api.http.get("/docs")
    assert page.status_code == 200
    for method, path in OPERATIONS:
        assert f"{method.upper()} {path}" in page.text
    for told in ("Idempotency-Key", "account_name", "reason", "smart-accounts", "503"):
        assert told in page.text
    assert "<code>&lt;</code>" in page.text
    assert "`" not in page.text
    assert "<script" not in page.text
    assert not re.findall(r"""(?:src|href)=["'](?!/)""", page.text)
    assert len(page.content) < 60 * 1024
