"""``python -m smart_accounts.local.provider PORT``: the local identity provider.

It is ``oidc-provider-mock`` with the people of ``people.py``. The mock's own access tokens are
opaque, but the API accepts only JWTs. This program therefore makes the access tokens itself and
signs them with the key that the mock publishes.
"""

import os
import secrets
import sys
import time
from typing import Any
from uuid import uuid4

import flask
import oidc_provider_mock
import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey

from smart_accounts.local.configuration import CLIENT_ID, HOST
from smart_accounts.local.people import PEOPLE, display_name

LIFETIME_SECONDS = 3600  # the same as expires_in in the mock's token response


def access_token(*, client: Any, user: Any, scope: str, **_: Any) -> str:
    """Return a JWT as in RFC 9068. Its audience is the client ID of the web pages."""
    # The mock has no public way to get its key. Its version is pinned, so this does not break.
    key = RSAKey.import_key(flask.g.oidc_provider_mock_storage.jwk.as_dict(is_private=True))
    issued_at = int(time.time())
    claims = {
        **user.claims,
        "iss": flask.request.host_url.rstrip("/"),
        "sub": user.sub,
        "aud": CLIENT_ID,
        "client_id": client.id,
        "scope": scope,
        "iat": issued_at,
        "exp": issued_at + LIFETIME_SECONDS,
        "jti": uuid4().hex,
    }
    return jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": key.thumbprint()}, claims, key)


def create_app() -> flask.Flask:
    app = flask.Flask("oidc_provider_mock")  # Flask finds the mock's templates by this name
    app.secret_key = secrets.token_bytes(16)
    # Authlib reads this once, in init_app.
    app.config["OAUTH2_ACCESS_TOKEN_GENERATOR"] = access_token
    people = [
        oidc_provider_mock.User(
            sub=subject, claims={"name": display_name(subject), "email_verified": True, **person}
        )
        for subject, person in PEOPLE.items()
    ]
    oidc_provider_mock.init_app(app, user_claims=people)
    return app


if __name__ == "__main__":
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # allow HTTP, which never leaves this machine
    uvicorn.run(create_app(), interface="wsgi", host=HOST, port=int(sys.argv[1]))
