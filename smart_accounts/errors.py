"""Errors that tell the caller what to do: correct the input, try again later, or give up."""

from datetime import datetime


class SmartAccountsError(Exception):
    """Base of the errors that are shown to people. The message is one plain sentence."""


class Rejected(SmartAccountsError):
    """The service rejected a valid call, for example because another decision was made.

    ``retry_at`` is set if a limit was reached.
    """

    def __init__(self, message: str, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class AlreadyOpen(Rejected):
    """A start was rejected, because the domain has an open request."""


class NotFound(Rejected):
    """The request does not exist, or it is closed and no longer accepts messages."""


class Unavailable(SmartAccountsError):
    """Temporal, the database or a worker does not respond. Try again later."""

    @property
    def public_message(self) -> str:
        """The message for people who do not run the service."""
        return str(self)


class NeedsOperator(Unavailable):
    """Temporal rejects a call, or its data cannot be read. The message tells operators why."""

    @property
    def public_message(self) -> str:
        return (
            "The part of the service that runs the requests is down right now. Nothing was lost;"
            " try again later."
        )


class NoResponse(Unavailable):
    """Temporal did not respond in time. The call may still take effect."""


class BadSetting(SmartAccountsError):
    """A setting is missing or wrong. The message names the setting."""


def message_of(error: Exception) -> str:
    """Return what people read about an error, also about one that nobody expected."""
    if isinstance(error, SmartAccountsError):
        return str(error)
    return f"Unexpected error: {type(error).__name__}: {error}"
