"""The account store: accounts, their users, requests, and the ledger of mails."""
