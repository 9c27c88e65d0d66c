"""Sending webhooks: which addresses are allowed, signatures, and the HTTP call."""
