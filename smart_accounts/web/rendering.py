"""Render pages from templates."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from smart_accounts.settings import Settings
from smart_accounts.text import UTC_MOMENT, bdi, time_left, utc

RETRY_AFTER_SECONDS = 10  # during an outage, for pages and the API

# The script times.js shows each ``<time>`` in the reader's time zone.
_TIME = r'<time datetime="\1T\2Z">\g<0></time>'


def sentence(text: str) -> Markup:
    """Return a sentence as HTML. It may contain what ``utc`` and ``isolated`` returned."""
    html = UTC_MOMENT.sub(_TIME, str(escape(text)))
    return Markup(bdi(html))  # noqa: S704 - the text is escaped above


def moment(at: datetime) -> Markup:
    """Return a moment in UTC as HTML."""
    return sentence(utc(at))


def day(at: datetime) -> Markup:
    """Return the day of a moment in UTC as HTML. The attribute ``datetime`` has the time too."""
    at = at.astimezone(UTC)
    return Markup('<time class="day" datetime="{0:%Y-%m-%dT%H:%MZ}">{0:%Y-%m-%d}</time>').format(at)


# Templates are compiled once per process, because compiling one takes longer than rendering it.
_templates = Environment(
    loader=PackageLoader("smart_accounts.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"day": day, "moment": moment, "sentence": sentence, "time_left": time_left}


class Pages:
    """Renders templates. Every value is escaped."""

    def __init__(self, settings: Settings) -> None:
        self.root = urlsplit(settings.base_url).path
        """The path of the public URL. Every link begins with it."""
        self._common = {
            "root": self.root,
            "organisation_name": settings.organisation_name,
            "support_url": settings.support_url,
        }

    def __call__(
        self, name: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> HTMLResponse:
        """Return the page of the template ``name`` (without its extension) with these values."""
        text = _templates.get_template(f"{name}.html").render(self._common | values)
        return HTMLResponse(text, status, headers)
