"""The operator's commands: python -m smart_accounts.admin."""
