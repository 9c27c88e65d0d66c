"""HTTP: bodies, headers, host names, origins, rate limits and error responses."""
