"""The API as an application of its own, so that every answer under its path is JSON."""

from fastapi import FastAPI

from smart_accounts.settings import Settings
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.web.api.bearer import Bearer
from smart_accounts.web.api.openapi import describe, description_routes
from smart_accounts.web.api.routes import RequestRoutes
from smart_accounts.web.http.problem import add_problems
from smart_accounts.web.rendering import Pages
from smart_accounts.web.submission import Submission

PATH = "/api"


def add_api(
    app: FastAPI, store: AccountStore, client: RequestClient, settings: Settings, page: Pages
) -> None:
    """Put the API and its description into the web application."""
    api = FastAPI(openapi_url=None, redirect_slashes=False, telemetry={"tracing": False})
    api.state.bearer = Bearer(settings, store.partners)
    submission = Submission(store, client, Limits.of(settings))
    router = RequestRoutes(store, client, submission, page.root).router
    api.include_router(router)
    add_problems(api, router)
    app.mount(PATH, api)
    app.include_router(description_routes(lambda: describe(api, PATH, settings), page))
