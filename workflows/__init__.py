"""The process of a request: orchestration only, without I/O and without settings."""
