"""The embedded stack behind ``make run`` and ``make demo``."""
