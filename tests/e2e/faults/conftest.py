"""What these tests take from the contract suites."""

from contracts.conftest import s3_url

__all__ = ["s3_url"]
