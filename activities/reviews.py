"""Tell the operators which requests wait for a review."""

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.measurements import count_email, email_not_sent
from smart_accounts.contract.messages import EmailKind
from smart_accounts.mail.compose import Composer
from smart_accounts.mail.smtp import MailError, SmtpSender
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.metrics import Attempt


class ReviewActivities:
    def __init__(
        self, store: AccountStore, composer: Composer, sender: SmtpSender, review_email: str | None
    ) -> None:
        self._store = store
        self._composer = composer
        self._sender = sender
        self._review_email = review_email

    @activity.defn
    async def tell_operators(self, request_id: str) -> None:
        """Send an email that lists the requests in review, unless one has listed this request.

        Raises:
            ApplicationError: the last email is too recent, or the mail server does not take this
                one. Temporal tries again.
        """
        reviews, now = self._store.reviews, activity.info().started_time
        if self._review_email is None or await reviews.is_announced(request_id):
            return
        if may_send_at := await reviews.claim_email(now):
            raise ApplicationError(
                "The operators got another email a moment ago. The next one lists this request.",
                type="OperatorsToldRecently",
                next_retry_delay=may_send_at - now,
            )
        waiting = await reviews.waiting(request_id)
        message = self._composer.compose_review_needed(request_id, waiting, to=self._review_email)
        try:
            await self._sender.send(message)
        except MailError as error:
            email_not_sent(EmailKind.REVIEW_NEEDED, error)
            # Without the mail server's reply, which may name an address.
            raise ApplicationError(
                "The mail server does not take the email to the operators at the moment.",
                type=type(error).__name__,
            ) from None
        count_email(EmailKind.REVIEW_NEEDED, Attempt.SENT)
        await reviews.set_announced(waiting)
