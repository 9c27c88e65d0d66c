"""What the partner's pages have in common: who looks, the forms' tokens, and whose requests."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException, Request, Response

from smart_accounts.accounts.records import StoredRequest
from smart_accounts.accounts.store import AccountStore
from smart_accounts.client import Begun, RequestClient
from smart_accounts.errors import NotFound
from smart_accounts.web.bodies import read_form
from smart_accounts.web.pages import Pages
from smart_accounts.web.partner import Partner, check_csrf, header_of
from smart_accounts.web.requests.form import MAX_REQUEST_FORM
from smart_accounts.web.requests.words import DELIVERY, MAILS, STATUSES, TONES, shown_status

_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORKFLOW_ID = re.compile(r"smart-account-[a-z0-9.-]{1,253}")


class PartnerPages:
    """Pages for whoever is signed in; each form carries the token that it is checked for."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.root = pages.root

    def __call__(
        self,
        asked: Request,
        name: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **shown: Any,
    ) -> Response:
        return self._pages(
            f"requests/{name}",
            status,
            headers,
            now=datetime.now(UTC),
            **header_of(asked),
            statuses=STATUSES,
            tones=TONES,
            mails=MAILS,
            delivery=DELIVERY,
            shown_status=shown_status,
            **shown,
        )

    async def read(self, request: Request) -> dict[str, str]:
        """The form that was sent, once seen that it is one of ours."""
        form = await read_form(request, MAX_REQUEST_FORM)
        check_csrf(request, form)
        return form

    def path_of(self, workflow_id: str, run_id: str) -> str:
        return f"{self.root}/requests/{workflow_id}?run={run_id}"


class OwnRequests:
    """The requests that a partner may see: their own, an operator everybody's."""

    def __init__(self, store: AccountStore, client: RequestClient) -> None:
        self._store = store
        self._client = client

    async def find(
        self, partner: Partner, workflow_id: str, run_id: str | None
    ) -> StoredRequest | Begun:
        """The newest request of that id, or the one of that run.

        For a moment after it was sent only Temporal has a request, as ``Begun``.

        Raises:
            HTTPException: 404, there is none or it is somebody else's, which looks the same.
        """
        found = await self._store.requests.newest(
            workflow_id, requester_email=visible_to(partner), run_id=run_id
        )
        if found:
            return found
        if not run_id or not _RUN_ID.fullmatch(run_id) or not _WORKFLOW_ID.fullmatch(workflow_id):
            raise HTTPException(404)
        if await self._store.find_request(run_id):
            raise HTTPException(404)
        try:
            begun = await self._client.begun(workflow_id, run_id=run_id)
        except NotFound:
            raise HTTPException(404) from None
        owner = visible_to(partner)
        if owner is not None and begun.request.requester.email.lower() != owner.lower():
            raise HTTPException(404)
        return begun

    async def stored(self, partner: Partner, workflow_id: str, run_id: str | None) -> StoredRequest:
        """The request, if the store has it.

        Raises:
            HTTPException: 404, as above.
        """
        found = await self.find(partner, workflow_id, run_id)
        if isinstance(found, Begun):
            raise HTTPException(404)
        return found


def visible_to(partner: Partner) -> str | None:
    """Whose requests a partner sees; ``None`` means everybody's."""
    return None if partner.is_operator else partner.requester.email
