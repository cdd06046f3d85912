"""Every SQL statement, for SQLite and PostgreSQL alike, and the transactions that run them."""
