"""Errors that carry what the caller can do about them."""


class SmartAccountsError(Exception):
    """Base of the errors that are shown to people: the message is one plain sentence."""


class Rejected(SmartAccountsError):
    """The service understood and said no: domain taken, another decision made, request closed."""


class NotFound(Rejected):
    """There is no such request, or it is closed and no longer takes messages."""


class Unavailable(SmartAccountsError):
    """Temporal, the database or a worker does not answer; try again later."""


class BadSetting(SmartAccountsError):
    """A setting is missing or wrong; the message names it."""
