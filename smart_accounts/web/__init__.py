"""The customer's and the partner's pages, the sign-in and the health checks."""
