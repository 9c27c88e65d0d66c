"""Signing in at the OpenID provider, and the session that follows."""
