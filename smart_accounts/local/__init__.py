"""The embedded stack that ``make run`` and ``make demo`` start."""
