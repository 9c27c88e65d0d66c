"""Errors of Temporal that only an operator can fix."""

import pytest
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.errors import Unavailable
from smart_accounts.temporal.codec import NOT_ENCRYPTED, UnknownKey, UnreadablePayload
from smart_accounts.temporal.errors import translate_errors

OPERATORS_WORDS = {
    "rejected call": "address, namespace, API key and search attributes",
    "unreadable payload": "SMART_ACCOUNTS_PAYLOAD_KEYS and SMART_ACCOUNTS_PAYLOAD_PLAINTEXT",
    "unknown key": "Add this key to SMART_ACCOUNTS_PAYLOAD_KEYS",
}
"""What operators are told to check, for each error."""

_CAUSES = {
    "rejected call": RPCError("no permission", RPCStatusCode.PERMISSION_DENIED, b""),
    "unreadable payload": UnreadablePayload(NOT_ENCRYPTED),
    "unknown key": UnknownKey("0123456789abcdef"),
}


def error_for_operators(name: str) -> Unavailable:
    """Return the error as the client raises it."""
    with pytest.raises(Unavailable) as raised, translate_errors():
        raise _CAUSES[name]
    assert OPERATORS_WORDS[name] in str(raised.value)  # the command line shows this
    return raised.value
