"""All routes under ``/requests``."""

import asyncio

from fastapi import APIRouter

from smart_accounts.settings import Settings
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.web.rendering import Pages
from smart_accounts.web.requests.actions import Actions
from smart_accounts.web.requests.create import NewRequest
from smart_accounts.web.requests.detail import OneRequest
from smart_accounts.web.requests.listing import MyRequests
from smart_accounts.web.requests.templating import OwnRequests, PartnerPages
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
    submission = Submission(store, client, Limits.of(settings))
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
