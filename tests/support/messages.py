"""Messages to a request in any kind, encoding, number and body, and which of them are valid.

To test another message, or another field of one, change ``KINDS``.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload

from smart_accounts.contract.messages import Status
from smart_accounts.temporal.guard import MAX_PAYLOAD

Body = dict[str, Any]


def _never(_: Body, __: int) -> Status | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of message. ``good`` bodies are valid as its only argument, ``bad`` ones are not."""

    call: Literal["signal", "update", "query"]
    name: str
    good: Sequence[Body] = ()
    bad: Sequence[Any] = ()
    is_optional: bool = True
    """Whether the message is valid without an argument."""
    has_argument: bool = True
    """The SDK drops the arguments of a handler that takes none."""
    decides: Callable[[Body, int], Status | None] = field(default=_never, repr=False)
    """Returns the status that a valid body leads to while this link is the newest."""


def by_answer(status: Status) -> Callable[[Body, int], Status | None]:
    return lambda body, newest: status if body.get("link") in (None, newest) else None


def by_bounce(body: Body, newest: int) -> Status | None:
    is_newest = body["email"] == {"kind": "activation", "to": "customer", "number": newest}
    return Status.UNDELIVERABLE if is_newest else None


def bounce_of(kind: str, to: str, number: int) -> Body:
    return {"email": {"kind": kind, "to": to, "number": number}, "answer": "550 unknown"}


OPERATOR = {"role": "operator", "subject": "opal"}
KINDS = [
    Kind(
        call="signal",
        name="accepted",
        good=[{}, {"accepted_by": "ada@acme.example"}, {"link": 1}, {"link": 2}, {"link": 2**70}],
        bad=[{"accepted_by": ""}, {"accepted_by": "a" * 255}, {"link": 0}, {"link": "one"}],
        decides=by_answer(Status.ACTIVE),
    ),
    Kind(
        call="signal",
        name="declined",
        good=[{}, {"reason": None}, {"reason": "No.", "link": 1}, {"link": 99}, {"report": True}],
        bad=[{"reason": "\u202e"}, {"reason": "a" * 1025}, {"link": -1}, {"report": "maybe"}],
        decides=by_answer(Status.DECLINED),
    ),
    Kind(
        call="signal",
        name="bounced",
        good=[
            bounce_of("activation", "customer", 1),
            bounce_of("activation", "customer", 2),
            bounce_of("activation", "customer", -1),
            bounce_of("request-received", "requester", 1),
            bounce_of("access-granted", "added-user", 99),
            bounce_of("rejected", "added-user", 2**70),
        ],
        bad=[{}, {"email": {}, "answer": "550"}, {"answer": "550"}, bounce_of("x", "y", 1)],
        is_optional=False,
        decides=by_bounce,
    ),
    Kind(call="signal", name="no-such-signal"),
    Kind(
        call="update",
        name="resend_activation_email",
        good=[{}, {"by": None}, {"by": OPERATOR}],
        bad=[{"by": "me"}, {"by": {"role": "owner"}}],
    ),
    Kind(
        call="update",
        name="replace_approver",
        good=[{"customer_email": "cy@acme.example"}, {"customer_email": " dee@acme.example"}],
        bad=[{}, {"customer_email": "cy"}, {"customer_email": "a" * 9999 + "@acme.example"}],
        is_optional=False,
    ),
    Kind(
        call="update",
        name="withdraw",
        good=[{}, {"reason": "A duplicate."}, {"by": OPERATOR}],
        bad=[{"reason": "\x00"}, {"reason": "a" * 1025}, {"by": {"subject": "a" * 256}}],
        decides=lambda _, __: Status.WITHDRAWN,
    ),
    Kind(
        call="update",
        name="review",
        good=[{"decision": "approve"}, {"decision": "reject", "reason": "No.", "by": "opal"}],
        bad=[{}, {"decision": "reject"}, {"decision": "maybe"}, {"decision": "approve", "by": 1}],
        is_optional=False,
    ),
    Kind(call="query", name="status", has_argument=False),
]


@dataclass(frozen=True)
class Argument:
    """One argument. ``body`` is what a handler may get, or None if the guard must reject it."""

    payload: Payload
    body: Body | None = None


JSON = {"encoding": b"json/plain"}
PROTOBUF = b"temporal.api.common.v1.WorkflowExecution"
OTHER_ENCODINGS: list[dict[str, bytes]] = [
    {},
    {"encoding": b"binary/plain"},
    {"encoding": b"binary/protobuf", "messageType": PROTOBUF},
    {"encoding": b"binary/protobuf", "messageType": b"no.such.Type"},
    {"encoding": b"json/protobuf", "messageType": PROTOBUF},
    {"encoding": b"json/protobuf"},
    {"encoding": b"binary/encrypted"},
    {"encoding": b"JSON/PLAIN"},
    {"encoding": b"\xff"},
]
# Those that the SDK reads, although the handler expects a model.
READABLE = [
    *(Payload(metadata={"encoding": b"binary/plain"}, data=data) for data in (b"", b"x", b"{}")),
    Payload(metadata={"encoding": b"binary/protobuf", "messageType": PROTOBUF}),
    Payload(metadata={"encoding": b"json/protobuf", "messageType": PROTOBUF}, data=b"{}"),
]
NULLS = [Payload(metadata={"encoding": b"binary/null"}), Payload(metadata=JSON, data=b"null")]

# The same characters as by default. For the default, Hypothesis tries to encode each of them.
ANY_CHARACTER = st.characters(exclude_categories=["Cs"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY_CHARACTER, max_size=20),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(st.text(ANY_CHARACTER, max_size=9), each, max_size=3)
    ),
    max_leaves=6,
)


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def bad_bodies(kind: Kind) -> st.SearchStrategy[bytes]:
    """Bodies in JSON that are not valid for this kind, and bodies that are not JSON."""
    fields = {name for body in kind.good for name in body}

    def is_bad(value: Any) -> bool:
        if isinstance(value, dict):
            return bool(value) and not fields & value.keys()
        return value is not None

    good = st.sampled_from([as_json(body) for body in kind.good] or [b"{}"])
    of_wrong_type = st.fixed_dictionaries(
        {name: st.sampled_from([[], [1], {}, {"a": 1}]) for name in fields or {"any"}}
    )
    return st.one_of(
        st.sampled_from([as_json(value) for value in kind.bad] or [b"[]"]),
        json_values.filter(is_bad).map(as_json),
        of_wrong_type.map(as_json),
        st.binary(max_size=50).filter(lambda data: not is_json(data)),
        good.map(lambda data: data[:-1]),
        good.map(lambda data: data + data),
        good.map(lambda data: data + b" " * MAX_PAYLOAD),
        st.sampled_from([b"[" * 50_000, b'{"a":' * 50_000, b'{"a": "\\ud800"}', b"\xef\xbb\xbf{}"]),
    )


def good_arguments(kind: Kind) -> st.SearchStrategy[Argument]:
    null: Body | None = {} if kind.is_optional else None
    bodies = [Argument(Payload(metadata=JSON, data=as_json(body)), body) for body in kind.good]
    return st.sampled_from([*(Argument(payload, null) for payload in NULLS), *bodies])


def arguments(kind: Kind) -> st.SearchStrategy[Argument]:
    bad = bad_bodies(kind).map(lambda data: Argument(Payload(metadata=JSON, data=data)))
    of_other_encoding = st.builds(
        lambda metadata, data: Argument(Payload(metadata=metadata, data=data)),
        st.sampled_from(OTHER_ENCODINGS),
        st.sampled_from([b"", b"{}", b"null"]) | st.binary(max_size=20),
    )
    readable = st.sampled_from([Argument(payload) for payload in READABLE])
    # Few good ones, because most of them end the request.
    return st.one_of(good_arguments(kind), bad, bad, of_other_encoding, readable, readable)


@dataclass(frozen=True)
class Message:
    kind: Kind
    payloads: tuple[Payload, ...]
    body: Body | None
    """What the handler gets, or None if the guard must let nothing through."""

    def __repr__(self) -> str:  # one payload may have 300 KB
        shown = [(dict(each.metadata), each.data[:200]) for each in self.payloads]
        return f"Message({self.kind.name}, {shown}, {self.body})"


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(KINDS))
    number = draw(st.sampled_from([1, 1, 1, 1, 1, 0, 2, 3]))
    given = draw(st.lists(arguments(kind), min_size=number, max_size=number))
    if number == 0 or not kind.has_argument:
        body: Body | None = {} if kind.is_optional else None
    else:
        body = given[0].body if number == 1 else None
    return Message(kind, tuple(argument.payload for argument in given), body)
