"""The text of each request that a search looks in."""

import sqlalchemy as sa
from alembic import op

from smart_accounts.store.search import search_text

revision = "0014"
down_revision = "0013"

ROWS_AT_ONCE = 1000


def upgrade() -> None:
    # Workers of the previous release store requests without it.
    op.add_column("requests", sa.Column("search_text", sa.Text(), nullable=True))
    names = ("account_name", "account_domain", "customer_email")
    requests = sa.table("requests", *map(sa.column, ("id", *names, "search_text")))
    columns = requests.c
    connection, last = op.get_bind(), ""
    query = sa.select(columns.id, *(columns[name] for name in names)).order_by(columns.id)
    change = requests.update().where(columns.id == sa.bindparam("row"))
    while rows := connection.execute(query.where(columns.id > last).limit(ROWS_AT_ONCE)).all():
        texts = [{"row": id_, "search_text": search_text(*shown)} for id_, *shown in rows]
        connection.execute(change, texts)
        last = rows[-1].id
