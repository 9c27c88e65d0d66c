"""The activation links of a request: which is in force, and when another may follow."""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.names import ACTION_REFUSED
    from smart_accounts.text import utc

RESEND_COOL_DOWN = timedelta(minutes=5)
RESENDS_IN_A_WINDOW = 100  # at most: a request of ten minutes can be resent after six seconds
LINKS_A_DAY = 6  # the first one and five more


def action_refused(message: str) -> ApplicationError:
    """The answer to an update that can't be done, in words for a person."""
    return ApplicationError(message, type=ACTION_REFUSED, non_retryable=True)


class Links:
    def __init__(self) -> None:
        self._issued_at: list[datetime] = []

    @property
    def in_force(self) -> int:
        """The ordinal of the newest link, from 1; those before it are dead."""
        return len(self._issued_at)

    def issued(self, at: datetime) -> None:
        self._issued_at.append(at)

    def check_another(self, now: datetime) -> None:
        """
        Raises:
            ApplicationError: too many within a day.
        """
        recent = [at for at in self._issued_at if at > now - timedelta(days=1)]
        if len(recent) >= LINKS_A_DAY:
            again = recent[0] + timedelta(days=1)
            raise action_refused(f"Too many activation emails in a day; try again at {utc(again)}.")

    def check_same_person(self, now: datetime, acceptance_window: timedelta) -> None:
        """
        Raises:
            ApplicationError: as above, or the last one was sent to the same person just now.
        """
        self.check_another(now)
        cool_down = min(RESEND_COOL_DOWN, acceptance_window / RESENDS_IN_A_WINDOW)
        again = self._issued_at[-1] + cool_down
        if now < again:
            raise action_refused(
                f"An activation email has just been sent; try again at {utc(again)}."
            )
