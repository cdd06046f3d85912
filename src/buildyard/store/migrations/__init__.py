"""The history of the schema, as Alembic keeps it; `tools/new_migration.py` adds a step."""
