"""Pages from templates: whose service it is and where links begin is the same on all of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from smart_accounts.settings import Settings
from smart_accounts.text import time_left, utc

RETRY_AFTER_SECONDS = 10  # in an outage; the API says the same


def moment(at: datetime) -> Markup:
    """A moment in UTC, for people and for programs."""
    return Markup('<time datetime="{}">{}</time>').format(at.astimezone(UTC).isoformat(), utc(at))


def day(at: datetime) -> Markup:
    """The day of it in UTC; programs get the moment."""
    at = at.astimezone(UTC)
    return Markup('<time datetime="{}">{:%Y-%m-%d}</time>').format(at.isoformat(), at)


# Templates are compiled once per process, because compiling one takes longer than rendering it.
_templates = Environment(
    loader=PackageLoader("smart_accounts.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"day": day, "moment": moment, "time_left": time_left}


class Pages:
    """Renders a template into an answer. Whatever it shows is escaped; its links are relative."""

    def __init__(self, settings: Settings) -> None:
        self.root = urlsplit(settings.base_url).path
        """What stands before every path where the public address has a path of its own."""
        self._everywhere = {
            "root": self.root,
            "organisation_name": settings.organisation_name,
            "support_url": settings.support_url,
        }

    def __call__(
        self, name: str, status: int = 200, headers: Mapping[str, str] | None = None, **shown: Any
    ) -> HTMLResponse:
        """The page ``name``, which is a template without its ending, with what it shows."""
        text = _templates.get_template(f"{name}.html").render(self._everywhere | shown)
        return HTMLResponse(text, status, headers)
