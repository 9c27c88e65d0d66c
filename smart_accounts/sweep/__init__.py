"""Compare the store with Temporal, and repair both ways."""
