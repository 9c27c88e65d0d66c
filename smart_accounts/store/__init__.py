"""The database: requests, accounts, links, emails, partners and idempotency keys."""
