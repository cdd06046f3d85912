"""Logs and blobs in an object store."""

from buildyard.adapters.blobs.objects import ObjectBlobStore
from buildyard.adapters.logs.objects import S3LogStore
from buildyard.adapters.object_store import connect_s3
from buildyard.settings import BadSettings, Settings

OPTIONS = frozenset({"endpoint", "region", "access_key_id", "secret_access_key"})


def open_bucket(settings: Settings) -> tuple[S3LogStore, ObjectBlobStore]:
    """Both in one bucket, below the prefix of `blobs.url`."""
    bucket, _, prefix = settings.blobs.url.removeprefix("s3://").partition("/")
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    unknown = set(settings.blobs.options) - OPTIONS
    if unknown or not settings.blobs.url.startswith("s3://"):
        raise BadSettings(f"blobs.url is s3://BUCKET/PREFIX, its options are {', '.join(sorted(OPTIONS))}")
    options = {"access_key_id": "", "secret_access_key": "", **settings.blobs.options}
    store = connect_s3(bucket, **options)
    logs = S3LogStore(settings.data / "logs", store, prefix=f"{prefix}logs/")
    return logs, ObjectBlobStore(store, settings.data / "incoming", prefix=f"{prefix}blobs/")
