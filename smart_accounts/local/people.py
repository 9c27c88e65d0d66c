"""The local identity provider, and the people who are ready to sign in at it."""

import sys
from pathlib import Path
from typing import Any

# By subject. Its page shows them as buttons; any other text typed there is a person without a
# verified address, who is not let in.
PEOPLE: dict[str, dict[str, Any]] = {
    "Pat Lee": {"email": "pat@partner.example", "company": "Partner Ltd"},
    "Kim Roy": {"email": "kim@reseller.example", "company": "Reseller GmbH"},
    "Oda Ray (operator)": {
        "email": "oda@operator.example",
        "company": "Smart Accounts",
        "roles": ["smart-accounts-operator"],
    },
}


def name_of(subject: str) -> str:
    return subject.partition(" (")[0]


def provider_command(port: int) -> list[str | Path]:
    # What it is made of warns of its own deprecations.
    return [sys.executable, "-W", "ignore", "-m", "smart_accounts.local.provider", str(port)]
