"""People who use the pages for partners, and their sessions."""

from fastapi import FastAPI, Request, Response

from smart_accounts.local.previews import RIGHT_TO_LEFT
from smart_accounts.store.sessions import Partner
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
DANA = Partner(
    issuer=ISSUER,
    subject="dana",
    email=RIGHT_TO_LEFT.requester.email,
    name=RIGHT_TO_LEFT.requester.name,
    company=RIGHT_TO_LEFT.requester.company,
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


async def session_cookie(app: FastAPI, partner: Partner) -> tuple[str, str]:
    """Begin a session. Return the name and the value of its cookie."""
    scope = {"type": "http", "headers": [], "client": ("192.0.2.1", 50000)}
    response = Response()
    await services_of(app).sessions.begin(Request(scope), response, partner)
    name, _, value = response.headers["set-cookie"].partition(";")[0].partition("=")
    return name, value
