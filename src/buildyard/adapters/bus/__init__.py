"""Event buses: within one process, or between servers through PostgreSQL."""
