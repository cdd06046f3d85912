"""Buildyard: a self-hosted server that builds, tests and runs software."""
