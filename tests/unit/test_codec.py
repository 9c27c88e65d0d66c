"""The encryption of payloads and failures, without a server."""

import inspect
import logging
import re
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    WorkflowSerializationContext,
)
from temporalio.exceptions import ApplicationError, CancelledError

from smart_accounts.contract.messages import Acceptance
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import Unavailable
from smart_accounts.mail import smtp
from smart_accounts.settings import ClientSettings
from smart_accounts.temporal import codec
from smart_accounts.temporal.codec import (
    READABLE_FAILURES,
    EncryptionCodec,
    PayloadCipher,
    UnknownKey,
    UnreadablePayload,
    client_data_converter,
    key_id_of,
)
from smart_accounts.temporal.guard import Unreadable, worker_data_converter
from tests.support.keys import NEW_KEY, OLD_KEY
from tests.support.web_settings import client_settings

ROOT = Path(__file__).parents[2]
PLAIN = Payload(metadata={"encoding": b"json/plain", "own": b"x"}, data=b'{"name": "Ada"}')
BARE = Payload(metadata={"encoding": b"json/plain"}, data=b"{}")
STRICT = client_settings(payload_keys=NEW_KEY)
WITH_PLAINTEXT = client_settings(payload_keys=NEW_KEY, payload_plaintext="allowed")
WITHOUT_KEYS = client_settings()


def sealed(payload: Payload = PLAIN, key: str = NEW_KEY) -> Payload:
    return PayloadCipher([key]).encrypt(payload)


def test_whole_payload_is_encrypted() -> None:
    cipher = PayloadCipher([NEW_KEY, OLD_KEY])
    first, second = cipher.encrypt(PLAIN), cipher.encrypt(PLAIN)
    assert b"Ada" not in first.SerializeToString()
    assert set(first.metadata) == {"encoding", "encryption-key-id"}
    assert first.data != second.data, "a nonce is never used twice"
    assert first.data[:12] != second.data[:12]
    assert cipher.decrypt(first) == PLAIN
    assert key_id_of(first) == cipher.key_ids[0]


def test_newest_key_encrypts_and_all_decrypt() -> None:
    both = PayloadCipher([NEW_KEY, OLD_KEY])
    assert PayloadCipher([NEW_KEY]).decrypt(both.encrypt(PLAIN)) == PLAIN
    assert both.decrypt(sealed(key=OLD_KEY)) == PLAIN


def test_mistyped_key_is_another_key() -> None:
    """Otherwise every payload of the right key would look forged, and an answer would be lost."""
    ids = PayloadCipher([NEW_KEY, f"{NEW_KEY}x", OLD_KEY]).key_ids
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", key_id) for key_id in ids)
    assert not any(key_id in f"{NEW_KEY}{OLD_KEY}" for key_id in ids)
    with pytest.raises(UnknownKey):
        PayloadCipher([f"{NEW_KEY}x"]).decrypt(sealed())


def tampered() -> dict[str, Payload]:
    good = sealed()

    def changed(data: bytes, key_id: bytes | None = None) -> Payload:
        metadata = dict(good.metadata) | ({"encryption-key-id": key_id} if key_id else {})
        return Payload(metadata=metadata, data=data)

    own = PayloadCipher([NEW_KEY])._ciphers[key_id_of(good) or ""]
    return {
        "one bit": changed(good.data[:-1] + bytes([good.data[-1] ^ 1])),
        "the nonce": changed(b"\0" * 12 + good.data[12:]),
        "cut off": changed(good.data[:20]),
        "a short nonce": changed(good.data[:5]),
        "empty": changed(b""),
        "no payload inside": changed(b"\0" * 12 + own.encrypt(b"\0" * 12, b"\xff\xff", None)),
    }


@pytest.mark.parametrize("payload", tampered().values(), ids=tampered())
@pytest.mark.parametrize("settings", [STRICT, WITH_PLAINTEXT], ids=["strict", "plaintext"])
async def test_tampered_payload_is_never_read(payload: Payload, settings: ClientSettings) -> None:
    [value] = await worker_data_converter(settings).decode([payload], [Acceptance])
    assert isinstance(value, Unreadable)
    assert value.errors[0].message == "cannot be decrypted"
    with pytest.raises(UnreadablePayload, match="cannot be decrypted"):
        await client_data_converter(settings).decode([payload], [Acceptance])


FOREIGN = {
    "JSON": BARE,
    "nothing": Payload(metadata={"encoding": b"binary/null"}),
    "no encoding": Payload(data=b"{}"),
    "bytes": Payload(metadata={"encoding": b"binary/plain"}),
    "encrypted by another codec": Payload(
        metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"test"}, data=b"x"
    ),
    "encrypted without a key id": Payload(metadata={"encoding": b"binary/encrypted"}, data=b"x"),
    "a mark of ours": Payload(metadata={"encoding": b"binary/not-authentic"}, data=b"{}"),
}


@pytest.mark.parametrize("payload", FOREIGN.values(), ids=FOREIGN)
async def test_payload_in_clear_is_not_read_in_the_strict_phase(payload: Payload) -> None:
    [value] = await worker_data_converter(STRICT).decode([payload], [Acceptance])
    assert isinstance(value, Unreadable)
    assert value.errors[0].message == "must be encrypted"
    with pytest.raises(UnreadablePayload, match="must be encrypted"):
        await client_data_converter(STRICT).decode([payload], [Acceptance])


@pytest.mark.parametrize("settings", [WITH_PLAINTEXT, WITHOUT_KEYS], ids=["introduction", "none"])
async def test_payload_in_clear_is_read_before_the_strict_phase(settings: ClientSettings) -> None:
    for converter in (worker_data_converter(settings), client_data_converter(settings)):
        assert await converter.decode([BARE], [Acceptance]) == [Acceptance()]


@pytest.mark.parametrize(
    "settings", [STRICT, WITH_PLAINTEXT, WITHOUT_KEYS], ids=["strict", "plaintext", "none"]
)
async def test_unknown_key_raises_everywhere(settings: ClientSettings) -> None:
    """A program without keys raises too. Otherwise it would drop what others encrypt."""
    payload = sealed(key=OLD_KEY)
    for converter in (worker_data_converter(settings), client_data_converter(settings)):
        with pytest.raises(UnknownKey, match=f"with the key {key_id_of(payload)}") as error:
            await converter.decode([payload], [Acceptance])
        assert isinstance(error.value, Unavailable), "programs say it in one line"


async def test_unknown_key_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(f"{codec.__name__}.time", SimpleNamespace(monotonic=lambda: now))
    worker = EncryptionCodec(STRICT, for_worker=True)
    for _ in range(5):
        with pytest.raises(UnknownKey):
            await worker.decode([sealed(key=OLD_KEY)])
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert PayloadCipher([OLD_KEY]).key_ids[0] in caplog.text
    now += 60
    with pytest.raises(UnknownKey):
        await worker.decode([sealed(key=OLD_KEY)])
    assert len(caplog.records) == 2


def in_activity(converter: DataConverter) -> DataConverter:
    context = ActivitySerializationContext("default", "1", None, None, "id", None, is_local=True)
    return converter.with_context(context)


@pytest.mark.parametrize("payload", [*tampered().values(), BARE])
async def test_result_of_an_activity_that_cannot_be_read_raises(payload: Payload) -> None:
    converter = worker_data_converter(STRICT)
    for hint in (Decision, list[Decision]):
        with pytest.raises(ValueError, match="cannot be read"):
            await in_activity(converter).decode([payload], [hint])
    context = WorkflowSerializationContext("default", "id")
    [value] = await converter.with_context(context).decode([payload], [Acceptance])
    assert isinstance(value, Unreadable)


async def test_details_that_the_server_wrote_in_clear_fail_no_task() -> None:
    """Temporal writes them if an activity is cancelled before its next try."""
    failure = Failure(message="canceled")
    details = Payload(metadata={"encoding": b"json/plain"}, data=b'"ACTIVITY_ID_NOT_STARTED"')
    failure.canceled_failure_info.details.payloads.append(details)
    known = await in_activity(worker_data_converter(STRICT)).decode_failure(failure)
    assert isinstance(known, CancelledError)


async def failure_of(error: BaseException, settings: ClientSettings = STRICT) -> Failure:
    failure = Failure()
    await worker_data_converter(settings).encode_failure(error, failure)
    return failure


async def test_failures_are_encrypted() -> None:
    error = ValueError("Ada Lovelace")
    error.__cause__ = KeyError("ada@acme.example")
    with suppress(ValueError):
        raise error  # so that it has a stack trace
    failure = await failure_of(error)
    assert failure.message == failure.cause.message == "Encoded failure"
    assert b"Ada" not in failure.SerializeToString()
    assert b"ada@" not in failure.SerializeToString()
    assert not failure.stack_trace
    known = await client_data_converter(STRICT).decode_failure(failure)
    assert isinstance(known, ApplicationError)
    assert (known.message, known.type) == ("Ada Lovelace", "ValueError")


async def test_operators_can_read_failures_of_our_own() -> None:
    details = [{"field": "name", "message": "Ada"}]
    ours = ApplicationError("account_name: is required", details, type="InvalidRequest")
    failure = await failure_of(ours)
    assert failure.message == "account_name: is required"
    assert b"Ada" not in failure.SerializeToString()
    known = await client_data_converter(STRICT).decode_failure(failure)
    assert isinstance(known, ApplicationError)
    assert known.details == (details,)
    outage = await failure_of(Unavailable("The database does not respond."))
    assert outage.message == "The database does not respond."
    for other in (ApplicationError("Ada", type="Other"), smtp.Unreachable("no ada@acme.example")):
        assert (await failure_of(other)).message == "Encoded failure"


async def test_without_keys_failures_stay_in_clear() -> None:
    failure = await failure_of(ValueError("a fault"), WITHOUT_KEYS)
    assert failure.message == "a fault"


def test_each_failure_of_our_own_is_readable() -> None:
    code = "".join(path.read_text() for path in (ROOT / "activities").glob("*.py"))
    raised = set(re.findall(r'type="(\w+)"', code))
    assert len(raised) >= 4
    mail_errors = {
        name
        for name, kind in inspect.getmembers(smtp, inspect.isclass)
        if issubclass(kind, smtp.MailError) and kind is not smtp.MailError
    }
    assert raised | mail_errors | {"InvalidRequest", "ActionRefused"} == READABLE_FAILURES
