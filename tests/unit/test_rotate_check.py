"""What ``rotate-check`` tells people, and which payloads it counts."""

from collections import Counter

import pytest
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.history.v1 import HistoryEvent

from smart_accounts.admin.rotate_check import _lines
from smart_accounts.temporal.codec import PayloadCipher
from smart_accounts.temporal.needed_keys import payloads_in
from tests.support.keys import NEW_KEY, OLD_KEY
from tests.support.web_settings import client_settings

NEW, OLD = PayloadCipher([NEW_KEY, OLD_KEY]).key_ids


def payload(text: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=text.encode())


@pytest.mark.parametrize(
    ("counts", "plaintext", "expected"),
    [
        ({NEW: 3, OLD: 1}, None, ["3 (encrypts)", "1 (needed)", "In clear: 0"]),
        (
            {NEW: 3},
            "allowed",
            [
                "3 (encrypts)",
                "0 (can be removed)",
                "In clear: 0 (SMART_ACCOUNTS_PAYLOAD_PLAINTEXT can be removed)",
            ],
        ),
        ({None: 2}, "allowed", ["0 (encrypts)", "0 (can be removed)", "In clear: 2"]),
        (
            {None: 2, "0" * 16: 1},
            None,
            [
                "0 (encrypts)",
                "0 (can be removed)",
                "1 (not in SMART_ACCOUNTS_PAYLOAD_KEYS; they wait for it)",
                "In clear: 2 (they wait for SMART_ACCOUNTS_PAYLOAD_PLAINTEXT=allowed)",
            ],
        ),
    ],
)
def test_lines(counts: dict[str | None, int], plaintext: str | None, expected: list[str]) -> None:
    settings = client_settings(payload_keys="x" * 3 + NEW_KEY, payload_plaintext=plaintext)
    missing = ["0" * 16] if "0" * 16 in counts else []
    lines = _lines(settings, 3, Counter(counts), [NEW, OLD], missing)
    assert lines[0] == "Open workflows: 3"
    assert [line.partition(": ")[2] for line in lines[1:-1]] == expected[:-1]
    assert lines[-1] == expected[-1]


def test_only_what_a_worker_reads_is_counted() -> None:
    started = HistoryEvent()
    attributes = started.workflow_execution_started_event_attributes
    attributes.input.payloads.append(payload("input"))
    attributes.memo.fields["key"].CopyFrom(payload("memo"))
    attributes.search_attributes.indexed_fields["Status"].CopyFrom(payload("attribute"))
    attributes.header.fields["trace"].CopyFrom(payload("header"))
    started.user_metadata.summary.CopyFrom(payload("summary"))
    failed = HistoryEvent()
    failed.activity_task_failed_event_attributes.failure.cause.encoded_attributes.CopyFrom(
        payload("failure")
    )
    marker = HistoryEvent()
    details = marker.marker_recorded_event_attributes.details
    details["data"].CopyFrom(Payloads(payloads=[payload("of the SDK")]))
    details["result"].CopyFrom(Payloads(payloads=[payload("result")]))
    found = [each.data for event in (started, failed, marker) for each in payloads_in(event)]
    assert sorted(found) == [b"failure", b"input", b"memo", b"result"]
