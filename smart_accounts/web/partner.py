"""Stand-in for the sign-in, of the same names: replaced by it on merge."""

from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request

from smart_accounts.messages import Requester

_TOKEN = "stand-in"  # noqa: S105 - no secret


@dataclass(frozen=True, kw_only=True)
class Partner:
    subject: str
    email: str
    name: str
    company: str
    is_operator: bool = False

    @property
    def requester(self) -> Requester:
        return Requester(email=self.email, name=self.name, company=self.company)


def signed_in(request: Request) -> Partner:
    partner: Partner | None = getattr(request.app.state, "partner", None)
    if partner is None:
        raise HTTPException(303, headers={"Location": f"/sign-in?next={request.url.path}"})
    return partner


def csrf_token(_: Request) -> str:
    return _TOKEN


def check_csrf(_: Request, form: dict[str, str]) -> None:
    if form.get("csrf") != _TOKEN:
        raise HTTPException(403)


def header_of(request: Request) -> dict[str, Any]:
    return {"partner": getattr(request.app.state, "partner", None), "csrf": _TOKEN}
