"""All routes under ``/requests``."""

from fastapi import APIRouter

from smart_accounts.web.requests import actions, create, detail, listing

router = APIRouter()
# The order matters: "new" in a path is not a workflow id.
for part in (create.router, listing.router, detail.router, actions.router):
    router.include_router(part)
