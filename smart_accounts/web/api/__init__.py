"""The JSON API for programs of the partners, under ``/api/``."""
