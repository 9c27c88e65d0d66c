"""The account store: accounts, their users, requests, the ledger of emails, partners."""
