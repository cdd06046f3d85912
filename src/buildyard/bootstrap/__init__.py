"""Turns settings into objects; the only importer of adapters."""
