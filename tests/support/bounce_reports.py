"""Bounce reports that tests write, and what should be read from them."""

from smart_accounts.mail.bounces import BounceReport, read_bounce
from smart_accounts.tokens import return_path

TOKEN = "q7w2abcdefghijklmnopqrstuvwxyz56"
OTHER = "a" * 32
DOMAIN = "bounces.service.example"
ADDRESS = return_path(TOKEN, DOMAIN)
UNREADABLE = BounceReport(TOKEN)


def read(report: str) -> BounceReport | None:
    return read_bounce(report.encode(), DOMAIN)


def failed(reply: str) -> BounceReport:
    return BounceReport(TOKEN, reply, recipient_failed=True)


def returned(reply: str) -> BounceReport:
    return BounceReport(TOKEN, reply, recipient_failed=False)


def report(
    *,
    headers: str = f"To: {ADDRESS}",
    content_type: str = 'multipart/report; report-type=delivery-status; boundary="b"',
    kind: str = "message/delivery-status",
    recipients: str = "Action: failed\nStatus: 5.1.1",
) -> str:
    """Return a minimal report, in which a test changes one part."""
    return (
        f"{headers}\nContent-Type: {content_type}\n\n--b\n\nSorry.\n"
        f"--b\nContent-Type: {kind}\n\nReporting-MTA: dns; relay.example\n\n{recipients}\n\n--b--"
    )
