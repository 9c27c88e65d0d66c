"""People who use the pages for partners, and their sessions."""

from fastapi import FastAPI, Response

from smart_accounts.web.auth.session import Partner
from smart_accounts.web.dependencies import Services

ISSUER = "https://login.example"
PAT = Partner(
    issuer=ISSUER,
    subject="pat",
    email="pat@partner.example",
    name="Pat Lee",
    company="Partner Ltd",
)
KIM = Partner(
    issuer=ISSUER,
    subject="kim",
    email="kim@reseller.example",
    name="Kim Roy",
    company="Reseller GmbH",
)
OPERATOR = Partner(
    issuer=ISSUER,
    subject="opal",
    email="opal@service.example",
    name="Opal Ray",
    company="Example Accounts",
    is_operator=True,
)


def services_of(app: FastAPI) -> Services:
    services: Services = app.state.services
    return services


def session_cookie(app: FastAPI, partner: Partner) -> tuple[str, str]:
    """Begin a session. Return the name and the value of its cookie."""
    response = Response()
    services_of(app).sessions.begin(response, partner)
    return cookie_in(response)


def cookie_in(response: Response) -> tuple[str, str]:
    """Return the name and the value of the cookie that the response sets."""
    name, _, value = response.headers["set-cookie"].partition(";")[0].partition("=")
    return name, value
