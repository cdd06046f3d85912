"""Blob stores: a local folder, or any object store that speaks S3."""
