"""The partner's pages: request a Smart Account, see what became of it, act on it."""
