"""Encrypt what Temporal stores: all payloads, and the messages of most failures."""

import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
    PayloadConverter,
)
from temporalio.exceptions import ApplicationError

from smart_accounts.contract.names import ACTION_REFUSED, INVALID_REQUEST
from smart_accounts.errors import NeedsOperator, Unavailable
from smart_accounts.settings import ClientSettings

ENCRYPTED = b"binary/encrypted"
KEY_ID = "encryption-key-id"
NOT_ENCRYPTED = b"binary/not-encrypted"
NOT_AUTHENTIC = b"binary/not-authentic"
UNREADABLE = {NOT_ENCRYPTED: "must be encrypted", NOT_AUTHENTIC: "cannot be decrypted"}
"""The encodings of payloads that must not be read, each with what is wrong."""

READABLE_FAILURES = {
    INVALID_REQUEST,
    ACTION_REFUSED,
    "EmailLimitReached",
    "MailServerUnreachable",
    "OperatorsToldRecently",
    "RefusedPermanently",
    "RefusedTemporarily",
    "SenderMisconfigured",
    "SenderRefused",
    "Unreachable",
    "WebhooksBusy",
}
"""The types of our failures whose messages hold no personal data, so that operators can read them.

Each is raised with a fixed sentence, or with field names and rules that quote no value.
"""

_KEY_ID_FORM = re.compile(rb"[0-9a-f]{16}")
_NONCE = 12  # bytes
_LOG_EVERY = 60  # seconds

_log = logging.getLogger(__name__)


class UnknownKey(NeedsOperator):
    """A payload is encrypted with a key that this program does not have."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"Temporal holds data that is encrypted with the key {key_id}."
            " Add this key to SMART_ACCOUNTS_PAYLOAD_KEYS of this program."
        )


class UnreadablePayload(RuntimeError):
    """A payload is forged or damaged, or it is not encrypted although it must be."""

    def __init__(self, encoding: bytes) -> None:
        super().__init__(f"a payload {UNREADABLE[encoding]}")
        self.encoding = encoding


class PayloadCipher:
    """Encrypts payloads with AES-256-GCM. The newest key, which comes first, encrypts.

    Key and key id are derived from the secret. So two keys never share an id, and a mistyped key is
    an unknown key, whose payloads wait, and not a key with which every payload looks forged.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._ciphers = {
            _derived(key, "payload-key-id").hex()[:16]: AESGCM(_derived(key, "payload"))
            for key in keys
        }

    @property
    def key_ids(self) -> list[str]:
        """The ids of the keys, newest first."""
        return list(self._ciphers)

    def encrypt(self, payload: Payload) -> Payload:
        """Return the encrypted payload. Without keys, return the payload itself."""
        if not self._ciphers:
            return payload
        key_id, cipher = next(iter(self._ciphers.items()))
        nonce = os.urandom(_NONCE)
        return Payload(
            metadata={"encoding": ENCRYPTED, KEY_ID: key_id.encode()},
            data=nonce + cipher.encrypt(nonce, payload.SerializeToString(), None),
        )

    def decrypt(self, payload: Payload) -> Payload:
        """Return the payload that was encrypted.

        Raises:
            UnknownKey: This program does not have the key.
            UnreadablePayload: The payload is not encrypted, or nobody who has a key made it.
        """
        key_id = key_id_of(payload)
        if key_id is None:
            raise UnreadablePayload(NOT_ENCRYPTED)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKey(key_id)
        nonce, sealed = payload.data[:_NONCE], payload.data[_NONCE:]
        try:
            return Payload.FromString(cipher.decrypt(nonce, sealed, None))
        except (InvalidTag, ValueError, DecodeError):
            raise UnreadablePayload(NOT_AUTHENTIC) from None


def key_id_of(payload: Payload) -> str | None:
    """Return the id of the key that encrypted a payload, or None if none of ours did."""
    key_id = payload.metadata.get(KEY_ID, b"")
    if payload.metadata.get("encoding") != ENCRYPTED or not _KEY_ID_FORM.fullmatch(key_id):
        return None
    return key_id.decode()


def _derived(key: str, purpose: str) -> bytes:
    return hmac.digest(key.encode(), purpose.encode(), hashlib.sha256)


class EncryptionCodec(PayloadCodec):
    """Encrypts what this program sends to Temporal, and decrypts what it receives.

    An unknown key raises an error in every program, because the key may come later. A worker's task
    is then tried again and again until the worker has the key, and nothing is lost.

    Another payload that cannot be read raises an error in a client. A worker gets a mark in its
    place, because an error would block the request forever.
    """

    def __init__(self, settings: ClientSettings, *, for_worker: bool = False) -> None:
        self._cipher = PayloadCipher(settings.encryption_keys)
        self._allows_plaintext = settings.allows_plaintext
        self._for_worker = for_worker
        self._next_log = 0.0

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._cipher.encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decode(payload) for payload in payloads]

    def _decode(self, payload: Payload) -> Payload:
        try:
            return self._cipher.decrypt(payload)
        except UnreadablePayload as error:
            if error.encoding == NOT_ENCRYPTED and self._allows_plaintext:
                return payload
            if not self._for_worker:
                raise
            return Payload(metadata={"encoding": error.encoding})
        except UnknownKey as error:
            if self._for_worker:
                self._report(error)
            raise

    def _report(self, error: UnknownKey) -> None:
        """Log an unknown key, at most once a minute, because each try of a task finds it again."""
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY
            _log.error("%s Requests wait for it. Nothing is lost.", error)


def hide_stack_traces_of_unknown_keys() -> None:
    """Keep the SDK from logging one for each try of each task. The codec logs the key instead."""
    for name in ("temporalio.worker._workflow", "temporalio.activity"):
        logging.getLogger(name).addFilter(_is_about_something_else)


def _is_about_something_else(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], UnknownKey))


class EncryptingFailureConverter(DefaultFailureConverterWithEncodedAttributes):
    """Encrypts messages and stack traces of failures. Operators can read those of our own types."""

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        super().to_failure(exception, payload_converter, failure)
        if isinstance(exception, ApplicationError) and exception.type in READABLE_FAILURES:
            failure.message = exception.message
        elif isinstance(exception, Unavailable):
            failure.message = str(exception)


def with_encryption(
    converter: DataConverter, settings: ClientSettings, *, for_worker: bool = False
) -> DataConverter:
    """Return the converter with encryption, if there are keys."""
    codec = EncryptionCodec(settings, for_worker=for_worker)
    if not settings.payload_keys:  # encrypted payloads of other programs still raise an error
        return replace(converter, payload_codec=codec)
    return replace(
        converter, payload_codec=codec, failure_converter_class=EncryptingFailureConverter
    )


def client_data_converter(settings: ClientSettings) -> DataConverter:
    """Return the converter of a program that sends messages to Temporal and reads the results."""
    return with_encryption(pydantic_data_converter, settings)
