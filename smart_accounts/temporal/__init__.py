"""Temporal: the connection, the client of the requests and the guard of the workflow."""
