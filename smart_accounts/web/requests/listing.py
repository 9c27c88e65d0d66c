"""My requests: a list to page through, filter and search."""

from urllib.parse import urlencode

from fastapi import APIRouter, Response

from smart_accounts.contract.messages import Status
from smart_accounts.text import one_line
from smart_accounts.web.dependencies import SignedIn, Web
from smart_accounts.web.lookup import visible_to
from smart_accounts.web.requests.labels import STATUS_FILTERS
from smart_accounts.web.requests.templating import RequestPage

PAGE_SIZE = 25
MAX_SEARCH = 254

router = APIRouter(include_in_schema=False)


@router.api_route("/requests", methods=["GET", "HEAD"])
async def list_requests(
    partner: SignedIn, render: RequestPage, web: Web, status: str = "", q: str = "", page: str = ""
) -> Response:
    """Show a page of the list. Parameters that make no sense are ignored."""
    wanted = Status(status) if status in STATUS_FILTERS else None
    search = one_line(q)[:MAX_SEARCH]
    is_number = page.isascii() and page.isdecimal() and len(page) < 9
    number = max(int(page), 1) if is_number else 1
    found = await web.store.listing.page(
        requester_email=visible_to(partner),
        status=wanted,
        search=search,
        offset=(number - 1) * PAGE_SIZE,
        limit=PAGE_SIZE,
    )

    def address(to: int) -> str:
        fields = {"status": wanted or "", "q": search, "page": to if to > 1 else ""}
        query = urlencode({name: value for name, value in fields.items() if value})
        return f"{web.pages.root}/requests" + (f"?{query}" if query else "")

    return render(
        "requests/listing",
        items=found.items,
        total=found.total,
        wanted=wanted,
        search=search,
        filters=STATUS_FILTERS,
        number=number,
        last=max(1, -(-found.total // PAGE_SIZE)),
        first_shown=(number - 1) * PAGE_SIZE + 1,
        address=address,
    )
