"""The search in the list of requests, which gives the same result on every database.

For each request, the store keeps a text that a search looks in. The databases' own functions are
not enough: SQLite ignores case only in ASCII, PostgreSQL depends on the database's locale, and
neither knows A-labels.
"""

import idna
from sqlalchemy import ColumnElement, and_, bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.text import folded

ROWS_AT_ONCE = 500


def search_text(account_name: str, account_domain: str, customer_email: str) -> str:
    """Return the text in which a search finds the request, with domains in both their forms."""
    shown = (account_name, account_domain, customer_email)
    typed = (_with_unicode_domain(account_domain), _with_unicode_domain(customer_email))
    return "\n".join(dict.fromkeys(map(folded, shown + typed)))


def search_text_of(request: SmartAccountRequest) -> str:
    return search_text(request.account_name, request.account_domain, request.customer_email)


async def add_missing_texts(engine: AsyncEngine) -> None:
    """Add the text to requests that an older release stored.

    Each transaction changes few rows, because the service may be reading and writing them.
    """
    requests, last = tables.requests.c, ""
    shown = (requests.account_name, requests.account_domain, requests.customer_email)
    query = select(requests.id, *shown).where(requests.search_text.is_(None)).order_by(requests.id)
    change = update(tables.requests).where(
        requests.id == bindparam("row"), requests.search_text.is_(None)
    )
    while True:
        async with transaction(engine, writes=True) as connection:
            batch = query.where(requests.id > last).limit(ROWS_AT_ONCE)
            # Otherwise an address that is erased meanwhile would come back.
            found = await connection.execute(batch.with_for_update(key_share=True))
            if not (rows := found.all()):
                return
            texts = [{"row": id_, "search_text": search_text(*names)} for id_, *names in rows]
            await connection.execute(change, texts)
            last = rows[-1].id


def matches(search: str) -> ColumnElement[bool]:
    """Return the condition for requests that a search finds."""
    requests = tables.requests.c
    columns = (requests.account_name, requests.account_domain, requests.customer_email)
    return or_(
        requests.search_text.contains(folded(search), autoescape=True),
        and_(  # stored by a worker of the previous release
            requests.search_text.is_(None),
            or_(*(each.icontains(search, autoescape=True) for each in columns)),
        ),
    )


def _with_unicode_domain(name: str) -> str:
    local, at, domain = name.rpartition("@")
    try:
        return f"{local}{at}{idna.decode(domain)}"
    except idna.IDNAError:  # earlier releases accepted more domains
        return name
