"""The local identity provider, and the people who are ready to sign in at it."""

import json
import sys
from pathlib import Path
from typing import Any

from smart_accounts.local.plan import HOST

# Its page shows the subjects as buttons; any other text typed there is a person without a
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


def provider_command(port: int) -> list[str | Path]:
    claims = [
        {"sub": subject, "name": subject.partition(" (")[0], "email_verified": True, **person}
        for subject, person in PEOPLE.items()
    ]
    return [
        *(sys.executable, "-W", "ignore", "-m", "oidc_provider_mock"),
        *("--host", HOST, "--port", str(port)),
        *(f"--user-claims={json.dumps(each)}" for each in claims),
    ]
