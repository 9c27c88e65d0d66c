"""My requests: a table to look through, filter and search."""

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from smart_accounts.contract.messages import Status
from smart_accounts.store.store import AccountStore
from smart_accounts.web.lookup import visible_to
from smart_accounts.web.requests.create import SignedIn
from smart_accounts.web.requests.labels import FILTERS
from smart_accounts.web.requests.templating import PartnerPages

PAGE_SIZE = 25
LONGEST_SEARCH = 254


class MyRequests:
    def __init__(self, store: AccountStore, page: PartnerPages) -> None:
        self._requests = store.requests
        self._page = page
        self.router = APIRouter(prefix="/requests", include_in_schema=False)
        self.router.add_api_route("", self.show, methods=["GET", "HEAD"])

    async def show(
        self, request: Request, partner: SignedIn, status: str = "", q: str = "", page: str = ""
    ) -> Response:
        """Whatever does not make sense in the address shows the list without it."""
        wanted = Status(status) if status in FILTERS else None
        search = "".join(filter(str.isprintable, q)).strip()[:LONGEST_SEARCH]
        number = int(page) if page.isascii() and page.isdecimal() and len(page) < 9 else 1
        number = max(number, 1)
        found = await self._requests.page(
            requester_email=visible_to(partner),
            status=wanted,
            search=search,
            offset=(number - 1) * PAGE_SIZE,
            limit=PAGE_SIZE,
        )

        def address(to: int) -> str:
            fields = {"status": wanted or "", "q": search, "page": to if to > 1 else ""}
            query = urlencode({name: value for name, value in fields.items() if value})
            return f"{self._page.root}/requests" + (f"?{query}" if query else "")

        return self._page(
            request,
            "listing",
            items=found.items,
            total=found.total,
            wanted=wanted,
            search=search,
            filters=FILTERS,
            number=number,
            last=max(1, -(-found.total // PAGE_SIZE)),
            first_shown=(number - 1) * PAGE_SIZE + 1,
            address=address,
        )
