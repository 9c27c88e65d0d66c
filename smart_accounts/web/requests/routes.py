"""All routes under ``/requests``."""

import asyncio

from fastapi import APIRouter

from smart_accounts.accounts.records import Ceilings
from smart_accounts.accounts.store import AccountStore
from smart_accounts.client import RequestClient
from smart_accounts.settings import Settings
from smart_accounts.web.pages import Pages
from smart_accounts.web.requests.actions import Actions
from smart_accounts.web.requests.mine import MyRequests
from smart_accounts.web.requests.new import NewRequest
from smart_accounts.web.requests.one import OneRequest
from smart_accounts.web.requests.pages import OwnRequests, PartnerPages
from smart_accounts.web.submission import Submission


def request_pages(
    store: AccountStore,
    client: RequestClient,
    settings: Settings,
    pages: Pages,
    closing: asyncio.Event,
) -> APIRouter:
    """``closing`` is set when the service shuts down, to end the streams of events."""
    page = PartnerPages(pages)
    own = OwnRequests(store, client)
    submission = Submission(store, client, Ceilings.of(settings))
    one = OneRequest(store, client, own, settings, page, closing)
    router = APIRouter()
    for each in (  # in this order: "new" is no workflow id
        NewRequest(store, submission, own, page),
        MyRequests(store, page),
        one,
        Actions(client, one, settings, page),
    ):
        router.include_router(each.router)
    return router
