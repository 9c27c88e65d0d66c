"""The API as an application of its own, so that every response under its path is JSON."""

from fastapi import FastAPI

from smart_accounts.web.api import actions, openapi, routes, webhooks
from smart_accounts.web.dependencies import Services
from smart_accounts.web.http.problem import add_problems

PATH = "/api"

ROUTERS = (routes.router, actions.router, webhooks.router)


def add_api(app: FastAPI, services: Services) -> None:
    """Add the API and its description to the web application."""
    api = FastAPI(openapi_url=None, redirect_slashes=False, telemetry={"tracing": False})
    api.state.services = services
    for router in ROUTERS:
        api.router.routes.extend(router.routes)
    add_problems(api, ROUTERS, services.security_log)
    app.mount(PATH, api)
    app.state.openapi = openapi.Document(api, PATH, services.settings)
    app.router.routes.extend(openapi.router.routes)
