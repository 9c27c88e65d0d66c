"""The customer's and the partner's pages, and the health checks."""
