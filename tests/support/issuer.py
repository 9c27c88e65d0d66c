"""An identity provider that signs access tokens with any claims, on its own port."""

import contextlib
import functools
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

AUDIENCE = "smart-accounts-api"
CONFIGURATION = "/.well-known/openid-configuration"


@functools.cache  # generating a key takes a moment
def _signing_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


class Issuer:
    def __init__(self) -> None:
        self.keys: list[RSAKey | ECKey] = [_signing_key("first")]
        """The published keys. The first one signs."""
        self.requested_paths: list[str] = []
        self.responses: dict[str, dict[str, Any]] = {}
        """For each path: the JSON document that is sent instead."""
        self.response_delay = 0.0
        """Seconds before each response."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    @property
    def settings(self) -> dict[str, str]:
        return {"oidc_issuer": self.url, "oidc_client_id": "web", "oidc_audience": AUDIENCE}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return Pat's claims, valid for an hour. A change to None removes a claim."""
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "pat",
            "exp": int(time.time()) + 3600,
            "scope": "openid smart-accounts",
            "email": "pat@partner.example",
            "email_verified": True,
            "name": "Pat Lee",
            "company": "Partner Ltd",
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        head = {"alg": "RS256", "kid": "first"} | (header or {})
        return jwt.encode(head, self.claims(**changes), self.keys[0], algorithms=[head["alg"]])

    def headers(self, **changes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**changes)}"}

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorization",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }

    def jwks(self) -> dict[str, Any]:
        return {"keys": [key.as_dict(private=False) for key in self.keys]}

    def _response(self, path: str) -> dict[str, Any]:
        if path in self.responses:
            return self.responses[path]
        return self.configuration() if path == CONFIGURATION else self.jwks()

    def _handler(issuer) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requested_paths.append(self.path)
                time.sleep(issuer.response_delay)
                body = json.dumps(issuer._response(self.path)).encode()
                with contextlib.suppress(OSError):  # the client may have disconnected
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    opened = Issuer()
    yield opened
    opened.close()
