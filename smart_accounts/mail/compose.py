"""Composing emails: headers nobody can inject into, written text that never becomes a link."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.header import Header
from email.headerregistry import Address, HeaderRegistry, UniqueUnstructuredHeader
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any

from css_inline import CSSInliner
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from smart_accounts.contract.messages import Addressee, Email, EmailStatus, Status
from smart_accounts.store.records import StoredRequest
from smart_accounts.text import time_left, utc

TEXT_WIDTH = 72
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")

# What mail clients make links of, by the character to break it at. A dot counts only before what
# can begin a top-level domain, so "3.5", "e.g. this" and "end. Next" stay; an ideographic one only
# beside a Latin letter or digit, so that Japanese and Chinese prose stays.
_DOT = r".\u2024\ufe52"  # also as one dot leader and small
_IDEOGRAPHIC_DOT = r"\u3002\uff0e\uff61"
_COLON = r":\uff1a\ufe55"  # also full width and small, as the others below
_SCHEMES = r"(?<=\bmailto)|(?<=\btel)|(?<=\bsms)|(?<=\bcallto)|(?<=\bskype)|(?<=\bnews)"
_LINKABLE = re.compile(
    rf"""
      (?:(?<=[\w-])|(?<=[^\x00-\x7f\s])) [{_DOT}]
        (?=[\u200c\u200d]*[^\W\d_](?:[\w-]|[^\x00-\x7f\s]))
    | (?<=[0-9a-z-]) [{_IDEOGRAPHIC_DOT}] (?=\w)
    | (?<=\w) [{_IDEOGRAPHIC_DOT}] (?=[0-9a-z])
    | (?:(?<=\bwww)|(?<=\bftp)) [.] (?=\S)
    | (?<![\d.]) \d{{1,3}} (?:[.]\d{{1,3}}){{3}} (?![.]?\d)
    | [{_COLON}] (?=[/\uff0f\\]{{2}})
    | (?:{_SCHEMES}) [{_COLON}] (?=\S)
    | (?<![\\\w]) \\ (?=\\\w)
    | (?<=\S) [@\uff20\ufe6b] (?=\S)
    | (?<==) [?]
    """,
    re.IGNORECASE | re.VERBOSE,
)


def unlinked(text: str) -> str:
    """The text with what could become a link broken where all can see: ``evil[.]example/x``.

    Mail clients make links of whatever looks like an address, escaped or not. ``=?`` begins an
    encoded word, which Python decodes even in a header that is just being written.
    """
    return _LINKABLE.sub(lambda found: re.sub(r"(\D)", r"[\1]", found[0]), text)


def quoted(text: str) -> str:
    """Somebody's words in a plain-text email, each line marked as theirs."""
    lines = (textwrap.wrap(line, TEXT_WIDTH - 2) or [""] for line in text.split("\n"))
    return "\n".join(f"> {part}".rstrip() for parts in lines for part in parts)


def unbroken(text: str) -> Markup:
    """The text for the HTML part, where no line ends within a moment."""
    escaped = str(escape(text))
    whole = _MOMENT.sub(r'<span class="moment">\g<0></span>', escaped)
    return Markup(whole)  # noqa: S704 - what else is in it is escaped


def _folded(text: str) -> str:
    """The text in short lines; links and other long words stay whole."""
    return "\n".join(
        textwrap.fill(
            line,
            TEXT_WIDTH,
            subsequent_indent=" " * (len(line) - len(line.lstrip())),
            break_long_words=False,
            break_on_hyphens=False,
        )
        if len(line) > TEXT_WIDTH
        else line
        for line in text.split("\n")
    )


def _answer(said: str | None) -> str | None:
    """What a mail server said, on one line: an email that came back may hold anything, and URLs."""
    printable = "".join(char if char.isprintable() else " " for char in said or "")
    return unlinked(" ".join(printable.split())) or None


def _written(request: StoredRequest) -> StoredRequest:
    """The request with all that people wrote unlinked, so that no template can forget to.

    Addresses and the account's domain are what the emails are about and stay.
    """
    # Whoever sends the signal says who accepted: no field rule has seen it.
    by = "".join(filter(str.isprintable, request.decided_by or "customer"))
    reason = request.reason or ""
    return replace(
        request,
        account_name=unlinked(request.account_name),
        requester_name=unlinked(request.requester_name),
        requester_company=unlinked(request.requester_company),
        note_to_customer=unlinked(request.note_to_customer or "") or None,
        note_to_added_users=unlinked(request.note_to_added_users or "") or None,
        reason=(
            _answer(reason) if request.status == Status.UNDELIVERABLE else unlinked(reason) or None
        ),
        decided_by=by if by.casefold() == request.customer_email.casefold() else unlinked(by),
    )


@dataclass(frozen=True, kw_only=True)
class Site:
    """Whose service this is and where it lives; ``base_url`` ends without a slash."""

    base_url: str
    organisation_name: str
    support_url: str | None
    mail_from: str


def recipient(email: Email, request: StoredRequest) -> str:
    match email.to:
        case Addressee.CUSTOMER:
            return request.customer_email
        case Addressee.REQUESTER:
            return request.requester_email
        case Addressee.ADDED_USER:
            return request.added_users[email.number - 1]


def message_id(email: Email, request_id: str, mail_from: str) -> str:
    """The email's name in the world: the same on every try, so that copies can be told."""
    domain = mail_from.rpartition("@")[2]
    return f"<{request_id}.{email.kind}.{email.to}.{email.number}@{domain}>"


class _Subject(UniqueUnstructuredHeader):
    """A subject that arrives as it was written: Python's own folding loses blanks in names."""

    def fold(self, *, policy: EmailPolicy) -> str:
        lines = Header(str(self), "utf-8", header_name="Subject").encode(linesep=policy.linesep)
        return f"Subject: {lines}{policy.linesep}"


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("subject", _Subject)  # type: ignore[arg-type] # it adds the base asked for
_POLICY = EmailPolicy(header_factory=_HEADERS)


class Composer:
    """Makes emails: ``<kind>.jinja`` says what, ``layout.txt`` and ``layout.html`` show it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._inliner = CSSInliner(keep_style_tags=True, load_remote_stylesheets=False)
        self._templates = Environment(
            loader=PackageLoader("smart_accounts.mail"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["site"] = site
        self._templates.filters |= {"moment": utc, "quoted": quoted, "unbroken": unbroken}

    def compose(
        self,
        email: Email,
        request: StoredRequest,
        link: str | None,
        *,
        now: datetime,
        undelivered: Sequence[EmailStatus] = (),
    ) -> EmailMessage:
        """The finished email, which says what is true at ``now`` by the service's clock.

        ``link`` is the activation link: it goes to the customer, in the activation mail and the
        reminders, and into no other email. ``undelivered`` are emails that did not reach them.
        """
        shown = {
            "email": email,
            "request": _written(request),
            "link": link,
            "left": time_left(max(request.deadline - now, timedelta())),
            "undelivered": [
                each.model_copy(update={"answer": _answer(each.answer)}) for each in undelivered
            ],
        }
        # Words and facts are plain strings here; only the HTML layout escapes, and it all of them.
        mail: Any = self._templates.get_template(f"{email.kind}.jinja").make_module(shown)
        text = self._templates.get_template("layout.txt").render(shown, mail=mail)
        html = self._templates.get_template("layout.html").render(shown, mail=mail)

        message = EmailMessage(_POLICY)
        # An address as text could hold a second one; an Address can't.
        message["From"] = Address(self._site.organisation_name, addr_spec=self._site.mail_from)
        message["To"] = Address(addr_spec=recipient(email, request))
        message["Subject"] = mail.subject
        message["Date"] = datetime.now(UTC)  # the mail server's time, not the service's
        message["Message-ID"] = message_id(email, request.id, self._site.mail_from)
        message["X-Smart-Account-Mail"] = str(email.kind)
        message["Auto-Submitted"] = "auto-generated"
        # Quoted-printable: no server then meets a long line or a byte it doesn't take.
        message.set_content(_folded(text), cte="quoted-printable")
        message.add_alternative(self._inliner.inline(html), subtype="html", cte="quoted-printable")
        return message
