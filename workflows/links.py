"""Count the activation links of a request, and limit new ones."""

from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.names import ACTION_REFUSED
    from smart_accounts.text import utc

RESEND_COOL_DOWN = timedelta(minutes=5)
RESENDS_PER_WINDOW = 100  # a request with a window of ten minutes can be resent after six seconds
LINKS_PER_DAY = 6


def action_refused(message: str) -> ApplicationError:
    """Return the error of an update that is not possible now. The message is shown to people."""
    return ApplicationError(message, type=ACTION_REFUSED, non_retryable=True)


class Links:
    def __init__(self) -> None:
        self._issued_at: list[datetime] = []
        self._early_answers: dict[int, Callable[[], object]] = {}

    @property
    def newest(self) -> int:
        """The ordinal of the newest link, from 1. Earlier links no longer work."""
        return len(self._issued_at)

    def is_in_force(self, link: int | None) -> bool:
        """Return whether an answer through this link counts. One without a link always does."""
        if link in (None, self.newest):
            return True
        workflow.logger.warning("Dropped an answer through link %s: it is superseded", link)
        return False

    def is_early(self, link: int) -> bool:
        """Return whether the link is not counted yet.

        A worker may stop after it has sent a link and before the history has it. The next worker
        sees the answer first, as it does after a reset.
        """
        return link > self.newest

    def keep_early(self, link: int, take: Callable[[], object]) -> None:
        self._early_answers.setdefault(link, take)

    def drop_early(self) -> None:
        self._early_answers.clear()

    @property
    def has_early(self) -> bool:
        return bool(self._early_answers)

    def take_early(self) -> None:
        """Take the answer that came before the link that is now in force, if there is one."""
        if take := self._early_answers.get(self.newest):
            take()
        self.drop_early()

    def take_first_early(self) -> None:
        for take in self._early_answers.values():  # the first decision counts
            take()
        self.drop_early()

    def add(self, issued_at: datetime) -> None:
        self._issued_at.append(issued_at)

    def check_new_link(self, now: datetime) -> None:
        """
        Raises:
            ApplicationError: Too many links were issued within a day.
        """
        last_day = [at for at in self._issued_at if at > now - timedelta(days=1)]
        if len(last_day) >= LINKS_PER_DAY:
            next_at = last_day[0] + timedelta(days=1)
            raise action_refused(
                f"Too many activation emails in a day; try again at {utc(next_at)}."
            )

    def check_resend(self, now: datetime, acceptance_window: timedelta) -> None:
        """
        Raises:
            ApplicationError: Too many links were issued within a day, or the last one just now.
        """
        self.check_new_link(now)
        cool_down = min(RESEND_COOL_DOWN, acceptance_window / RESENDS_PER_WINDOW)
        next_at = self._issued_at[-1] + cool_down
        if now < next_at:
            raise action_refused(
                f"An activation email has just been sent; try again at {utc(next_at)}."
            )
