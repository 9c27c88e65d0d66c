"""The list of requests, with pages, a filter and a search."""

from urllib.parse import urlencode

from fastapi import APIRouter, Response

from smart_accounts.contract.messages import Status
from smart_accounts.store.records import AccountState
from smart_accounts.text import one_line
from smart_accounts.web.dependencies import SignedIn, Web
from smart_accounts.web.lookup import requester_filter
from smart_accounts.web.requests.labels import STATUS_FILTERS
from smart_accounts.web.requests.templating import RequestPage

PAGE_SIZE = 25
MAX_SEARCH = 254

router = APIRouter(include_in_schema=False)


@router.api_route("/requests", methods=["GET", "HEAD"])
async def list_requests(
    partner: SignedIn, render: RequestPage, web: Web, status: str = "", q: str = "", page: str = ""
) -> Response:
    """Show a page of the list. Invalid parameters are ignored."""
    selected_status = status if status in STATUS_FILTERS else None
    # A closed account's request stays active, but the list shows it as closed.
    is_closed = selected_status == AccountState.CLOSED if selected_status else None
    search = one_line(q)[:MAX_SEARCH]
    is_number = page.isascii() and page.isdecimal() and len(page) < 9
    page_number = max(int(page), 1) if is_number else 1
    found = await web.store.listing.page(
        owner=requester_filter(partner),
        status=Status(selected_status) if selected_status and not is_closed else None,
        is_closed=is_closed,
        search=search,
        offset=(page_number - 1) * PAGE_SIZE,
        limit=PAGE_SIZE,
    )

    waiting = await web.store.reviews.count() if partner.is_operator else 0

    def page_url(number: int) -> str:
        fields = {
            "status": selected_status or "",
            "q": search,
            "page": number if number > 1 else "",
        }
        query = urlencode({name: value for name, value in fields.items() if value})
        return f"{web.pages.root}/requests" + (f"?{query}" if query else "")

    return render(
        "requests/listing",
        items=found.items,
        total=found.total,
        waiting_for_review=waiting,
        selected_status=selected_status,
        search=search,
        filters=STATUS_FILTERS,
        page_number=page_number,
        last_page=max(1, -(-found.total // PAGE_SIZE)),
        first_number=(page_number - 1) * PAGE_SIZE + 1,
        page_url=page_url,
    )
