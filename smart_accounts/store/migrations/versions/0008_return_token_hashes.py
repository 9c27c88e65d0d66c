"""Only the hash of each return path's token, so that a copy of the database forges no bounce."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    # One statement in the database, because this program must not read a million rows.
    emails = sa.table("emails", sa.column("return_token"))
    token = emails.c.return_token
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.alter_column("emails", "return_token", type_=sa.String(length=64))
        hashed = sa.func.encode(sa.func.sha256(sa.func.convert_to(token, "UTF8")), "hex")
    else:  # SQLite ignores the length in a column's type
        driver = connection.connection.dbapi_connection
        assert driver
        driver.create_function("sha256_hex", 1, _sha256_hex)
        hashed = sa.func.sha256_hex(token)
    is_token = sa.func.length(token) == 32
    op.execute(emails.update().where(is_token).values(return_token=hashed))


def _sha256_hex(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
