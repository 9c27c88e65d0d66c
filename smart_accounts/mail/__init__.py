"""Emails: compose them from templates, send them over SMTP, read bounces."""
