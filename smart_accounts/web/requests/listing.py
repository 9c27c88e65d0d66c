"""The list of requests: a page of it with a filter and a search, and all of it as a CSV file."""

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Response

from smart_accounts.contract.messages import Status
from smart_accounts.store.records import AccountState
from smart_accounts.text import one_line, visible
from smart_accounts.web.dependencies import SignedIn, Web
from smart_accounts.web.lookup import requester_filter
from smart_accounts.web.requests.csv_file import CsvFile, csv_text
from smart_accounts.web.requests.labels import STATUS_FILTERS
from smart_accounts.web.requests.templating import RequestPage

PAGE_SIZE = 25
BATCH_SIZE = 100  # requests that a download has in memory at a time, with all of their emails
MAX_SEARCH = 254

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class ListFilter:
    """What the list is filtered by. Invalid parameters are ignored."""

    partner: SignedIn
    status: str = ""
    q: str = ""

    @property
    def selected_status(self) -> str | None:
        return self.status if self.status in STATUS_FILTERS else None

    @property
    def search(self) -> str:
        return one_line(visible(self.q))[:MAX_SEARCH]

    @property
    def for_store(self) -> dict[str, Any]:
        """The filter as parameters of the store's methods."""
        selected = self.selected_status
        # A closed account's request stays active, but the list shows it as closed.
        is_closed = selected == AccountState.CLOSED if selected else None
        return {
            "owner": requester_filter(self.partner),
            "status": Status(selected) if selected and not is_closed else None,
            "is_closed": is_closed,
            "search": self.search,
        }

    def url(self, path: str, page: int = 1) -> str:
        """Return the URL of a path with this filter."""
        fields = {
            "status": self.selected_status,
            "q": self.search,
            "page": page if page > 1 else None,
        }
        query = urlencode({name: value for name, value in fields.items() if value})
        return path + (f"?{query}" if query else "")


Filtered = Annotated[ListFilter, Depends()]


@router.api_route("/requests", methods=["GET", "HEAD"])
async def list_requests(
    partner: SignedIn, render: RequestPage, web: Web, chosen: Filtered, page: str = ""
) -> Response:
    """Show a page of the list. An invalid number shows the first page."""
    is_number = page.isascii() and page.isdecimal() and len(page) < 9
    page_number = max(int(page), 1) if is_number else 1
    offset = (page_number - 1) * PAGE_SIZE
    found = await web.store.listing.page(**chosen.for_store, offset=offset, limit=PAGE_SIZE)
    waiting = await web.store.reviews.count() if partner.is_operator else 0
    path = f"{web.pages.root}/requests"
    return render(
        "requests/listing",
        items=found.items,
        total=found.total,
        waiting_for_review=waiting,
        selected_status=chosen.selected_status,
        search=chosen.search,
        filters=STATUS_FILTERS,
        page_number=page_number,
        last_page=max(1, -(-found.total // PAGE_SIZE)),
        first_number=offset + 1,
        page_url=lambda number: chosen.url(path, number),
        csv_url=chosen.url(f"{path}.csv"),
    )


@router.api_route("/requests.csv", methods=["GET", "HEAD"])
async def download_requests(partner: SignedIn, web: Web, chosen: Filtered) -> Response:
    batches = web.store.listing.batches(**chosen.for_store, size=BATCH_SIZE)
    first = await anext(batches)  # before the response begins, so that an outage has its page
    return CsvFile(
        csv_text(first, batches, web.settings.base_url, for_operator=partner.is_operator)
    )
