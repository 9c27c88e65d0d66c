#!/bin/sh
# Create Temporal's two databases, or update their schema to this version. It is safe to repeat.
set -eu

SQL_PASSWORD=$(cat "$SQL_PASSWORD_FILE")
export SQL_PASSWORD SQL_PLUGIN=postgres12
schema=/etc/temporal/schema/postgresql/v12

for database in temporal:temporal temporal_visibility:visibility; do
    export SQL_DATABASE="${database%:*}"
    temporal-sql-tool create
    temporal-sql-tool setup-schema -v 0.0
    temporal-sql-tool update-schema -d "$schema/${database#*:}/versioned"
done
