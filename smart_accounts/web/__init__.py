"""The customer's activation pages, the sign-in of partners and the health checks."""
