"""What the adapters over an object store share: how to reach S3, and its errors in the domain's words."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import S3Store

from buildyard.domain.errors import Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig


def connect_s3(
    bucket: str, *, access_key_id: str, secret_access_key: str, endpoint: str = "", region: str = "us-east-1"
) -> S3Store:
    """An S3 bucket (no `endpoint`: Amazon's) that gives up after seconds, not minutes. Nothing is sent yet."""
    client: ClientConfig = {"connect_timeout": "5s", "timeout": "300s", "allow_http": endpoint.startswith("http://")}
    retry: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
    return S3Store(
        bucket,
        endpoint=endpoint or f"https://s3.{region}.amazonaws.com",
        region=region,
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        client_options=client,
        retry_config=retry,
    )


@contextmanager
def object_errors(name: str) -> Iterator[None]:
    """Turn what the object store's library raises into Unavailable; a missing object stays FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError, ValueError) as exc:
        raise Unavailable(f"the object store failed on {name}: {str(exc).splitlines()[0]}") from exc
