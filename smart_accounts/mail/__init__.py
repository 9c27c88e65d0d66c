"""Emails: composed from templates, sent over SMTP."""
