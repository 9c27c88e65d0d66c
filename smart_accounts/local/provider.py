"""``python -m smart_accounts.local.provider PORT``: ``oidc-provider-mock`` with its people.

Its access tokens are opaque. The API takes JWTs, so they are made here, with the key it publishes.
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
from smart_accounts.local.people import PEOPLE, name_of

LIFETIME_SECONDS = 3600  # as the mock says in its answer


def access_token(*, client: Any, user: Any, scope: str, **_: Any) -> str:
    """A JWT as in RFC 9068. The API's audience is the client id of the pages."""
    # Nothing public gives the key; the mock's version is pinned.
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
    app = flask.Flask("oidc_provider_mock")  # its templates are found under its name
    app.secret_key = secrets.token_bytes(16)
    app.config["OAUTH2_ACCESS_TOKEN_GENERATOR"] = access_token  # read by Authlib, once
    people = [
        oidc_provider_mock.User(
            sub=subject, claims={"name": name_of(subject), "email_verified": True, **person}
        )
        for subject, person in PEOPLE.items()
    ]
    oidc_provider_mock.init_app(app, user_claims=people)
    return app


if __name__ == "__main__":
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # this machine talks to itself
    uvicorn.run(create_app(), interface="wsgi", host=HOST, port=int(sys.argv[1]))
