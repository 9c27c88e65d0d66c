"""Smart Account requests: everything that is not Temporal orchestration."""
