"""Mails: composed from templates, sent over SMTP."""
