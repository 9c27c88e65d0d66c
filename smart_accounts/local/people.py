"""The people who can sign in at the local identity provider."""

import sys
from pathlib import Path
from typing import Any

# By subject. The provider's page shows a button for each person. If someone types another name
# there, that person has no verified email address, so the service rejects the sign-in.
PEOPLE: dict[str, dict[str, Any]] = {
    "Pat Lee": {"email": "pat@partner.example", "company": "Partner Ltd"},
    "Kim Roy": {"email": "kim@reseller.example", "company": "Reseller GmbH"},
    "Oda Ray (operator)": {
        "email": "oda@operator.example",
        "company": "Smart Accounts",
        "roles": ["smart-accounts-operator"],
    },
}


def display_name(subject: str) -> str:
    return subject.partition(" (")[0]


def provider_command(port: int) -> list[str | Path]:
    # "-W ignore" hides the deprecation warnings of the provider's own dependencies.
    return [sys.executable, "-W", "ignore", "-m", "smart_accounts.local.provider", str(port)]
