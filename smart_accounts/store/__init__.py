"""The account store: accounts, their users, requests, the ledger of mails, partners."""
