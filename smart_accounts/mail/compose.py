"""Compose emails from templates. What people wrote can become neither a header nor a link."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

from css_inline import CSSInliner
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from smart_accounts.contract.messages import EmailKind, EmailStatus, Status
from smart_accounts.contract.steps import Email
from smart_accounts.mail.defang import defang
from smart_accounts.mail.headers import ALTERNATIVES, HEADERS, POLICY, header, new_part
from smart_accounts.mail.refusals import Fault, fault_of
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.webhook_records import Endpoint
from smart_accounts.text import (
    UTC_MOMENT,
    bdi,
    isolated,
    one_line,
    printable,
    time_left,
    utc,
    without_isolates,
)

TEXT_WIDTH = 72


def quoted(text: str) -> str:
    """Return the text as a quotation in a plain-text email: each line starts with ``>``."""
    lines = (textwrap.wrap(line, TEXT_WIDTH - 2) or [""] for line in text.split("\n"))
    return "\n".join(f"> {part}".rstrip() for parts in lines for part in parts)


# With its style, because the style sheet is applied to the template, which has no moments.
_MOMENT = r'<span class="moment" style="white-space: nowrap;">\g<0></span>'


def sentence(text: str) -> Markup:
    """Return a sentence as HTML. A moment stays on one line, and names are isolated."""
    html = UTC_MOMENT.sub(_MOMENT, str(escape(text)))
    return Markup(bdi(html))  # noqa: S704 - the text is escaped above


def _wrapped(text: str) -> str:
    """Return the text in short lines; links and other long words stay whole."""
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


def _server_reply(reply: str | None) -> str | None:
    """Return a mail server's reply in a safe form, because a bounced email may hold anything."""
    return defang(one_line(reply or "")) or None


def _defanged(request: StoredRequest) -> StoredRequest:
    """Return the request with everything that people wrote defanged, so that no template has to.

    Names are isolated too, because they stand in sentences.

    Email addresses and the account domain stay, because the emails are about them.
    """
    # The sender of the signal states this name, so it may be any text.
    decided_by = printable(request.decided_by or "customer")
    if decided_by.casefold() != request.customer_email.casefold():
        decided_by = isolated(defang(decided_by))
    reason = request.reason or ""
    is_server_reply = request.status == Status.UNDELIVERABLE
    return replace(
        request,
        account_name=isolated(defang(request.account_name)),
        requester_name=isolated(defang(request.requester_name)),
        requester_company=isolated(defang(request.requester_company)),
        note_to_customer=defang(request.note_to_customer or "") or None,
        note_to_added_users=defang(request.note_to_added_users or "") or None,
        reason=_server_reply(reason) if is_server_reply else defang(reason) or None,
        decided_by=decided_by,
        close_reason=defang(request.close_reason or "") or None,
    )


@dataclass(frozen=True, kw_only=True)
class Site:
    """The name and the addresses of the service; ``base_url`` has no slash at the end."""

    base_url: str
    organisation_name: str
    support_url: str | None
    mail_from: str
    support_email: str | None = None


_JINJA_TAG = re.compile(r"\{[%#].*?[%#]\}", re.DOTALL)
_JINJA_TAG_IN_COMMENT = re.compile(rf"<!--({_JINJA_TAG.pattern})-->", re.DOTALL)


class _Templates(PackageLoader):
    """Loads templates. HTML gets the rules of its style sheet in its elements when it is loaded."""

    def get_source(self, environment: Environment, template: str) -> Any:
        source, *rest = super().get_source(environment, template)
        return (_with_inline_styles(source) if template.endswith(".html") else source, *rest)


def _with_inline_styles(template: str) -> str:
    """Return the template with styles in its elements, because some mail programs need them.

    In the meantime its tags are in comments, which may stand anywhere in HTML.
    """
    inliner = CSSInliner(keep_style_tags=True, load_remote_stylesheets=False)
    html = inliner.inline(_JINJA_TAG.sub(r"<!--\g<0>-->", template))
    return _JINJA_TAG_IN_COMMENT.sub(r"\1", html)


# Templates are compiled once per process, because compiling one takes longer than rendering it.
_templates = Environment(
    loader=_Templates("smart_accounts.mail"),
    autoescape=select_autoescape(["html"]),
    auto_reload=False,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"moment": utc, "quoted": quoted, "sentence": sentence}


class Composer:
    """Composes emails: ``<kind>.jinja`` sets the content, ``layout.txt`` and ``.html`` show it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._domain = site.mail_from.rpartition("@")[2]
        own_address = Address(site.organisation_name, addr_spec=site.mail_from)
        self._from = HEADERS("From", own_address)
        self._reply_to = (
            HEADERS("Reply-To", Address(addr_spec=site.support_email))
            if site.support_email
            else None
        )

    def message_id(self, email: Email, request_id: str) -> str:
        """Return the email's ``Message-ID``.

        Every attempt to send the email has the same one, so that copies can be recognised.
        """
        return f"<{request_id}.{email.kind}.{email.to}.{email.number}@{self._domain}>"

    def compose(
        self,
        email: Email,
        request: StoredRequest,
        link: str | None,
        *,
        now: datetime,
        undelivered: Sequence[EmailStatus] = (),
    ) -> EmailMessage:
        """Return the finished email, which is true at ``now`` by the service's clock.

        Only the activation email and the reminders, which go to the customer, contain ``link``,
        the activation link. ``undelivered`` are earlier emails that did not reach the customer.
        """
        context = {
            "email": email,
            "request": _defanged(request),
            "link": link,
            "is_bad_address": (
                fault_of(request.reason or "", request.customer_email) is Fault.RECIPIENT
            ),
            "left": time_left(max(request.deadline - now, timedelta())),
            "undelivered": [
                status.model_copy(update={"answer": _server_reply(status.answer)})
                for status in undelivered
            ],
        }
        own_id = self.message_id(email, request.id)
        return self._message(email.kind, context, to=email.address_in(request), own_id=own_id)

    def compose_review_needed(
        self, request_id: str, waiting: Sequence[StoredRequest], *, to: str
    ) -> EmailMessage:
        """Return the email that tells the operators which requests wait for a review.

        ``request_id`` is the request that the email is sent for. It makes the ``Message-ID``.
        """
        kind = EmailKind.REVIEW_NEEDED
        context = {"requests": [_defanged(each) for each in waiting]}
        own_id = f"<{request_id}.{kind}@{self._domain}>"
        return self._message(kind, context, to=to, own_id=own_id)

    def compose_webhook_disabled(self, endpoint: Endpoint) -> EmailMessage:
        """Return the email that tells an endpoint's owner that it was disabled."""
        kind = EmailKind.WEBHOOK_DISABLED
        safe = replace(
            endpoint, url=defang(endpoint.url), description=isolated(defang(endpoint.description))
        )
        assert endpoint.disabled_at
        # An endpoint that was resumed can be disabled again.
        own_id = f"<{endpoint.id}.{kind}.{endpoint.disabled_at:%Y%m%dT%H%M%S}@{self._domain}>"
        return self._message(kind, {"endpoint": safe}, to=endpoint.owner_email, own_id=own_id)

    def _message(
        self, kind: EmailKind, context: dict[str, Any], *, to: str, own_id: str
    ) -> EmailMessage:
        context = context | {"site": self._site}
        # The content is plain text. Only layout.html escapes, and it escapes everything.
        content: Any = _templates.get_template(f"{kind}.jinja").make_module(context)
        text = _templates.get_template("layout.txt").render(context, content=content)
        html = _templates.get_template("layout.html").render(context, content=content)

        message = EmailMessage(POLICY)
        message["From"] = self._from
        # An address object, because an address given as text could contain a second one.
        message["To"] = Address(addr_spec=to)
        # Each subject begins with our own words, so a name needs no isolates. Some mail programs
        # would show them as boxes.
        message["Subject"] = without_isolates(content.subject)
        message["Date"] = datetime.now(UTC)  # this machine's clock; ``now`` is Temporal's
        message["Message-ID"] = own_id
        message["X-Smart-Account-Mail"] = header("X-Smart-Account-Mail", str(kind))
        if self._reply_to:
            message["Reply-To"] = self._reply_to
        message["Auto-Submitted"] = header("Auto-Submitted", "auto-generated")
        # Exchange ignores Auto-Submitted
        message["X-Auto-Response-Suppress"] = header("X-Auto-Response-Suppress", "All")
        message["MIME-Version"] = header("MIME-Version", "1.0")
        message["Content-Type"] = header("Content-Type", ALTERNATIVES)
        message.attach(new_part(_wrapped(text), "plain"))
        message.attach(new_part(html, "html"))
        return message
