"""The partner's pages: request a Smart Account, follow the request, act on it."""
