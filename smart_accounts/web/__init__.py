"""The customer's activation pages and the health checks."""
