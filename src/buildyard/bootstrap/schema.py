"""Brings the database up to date before a server opens it."""

import asyncio
import sys

from buildyard.domain.errors import Unavailable
from buildyard.store.schema_version import is_current


async def prepare_schema(database_url: str) -> None:
    """Have a process of its own make or upgrade the tables, if need be; raises Unavailable with its words."""
    if await is_current(database_url):
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "buildyard.store.schema"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate(database_url.encode())
    if process.returncode != 0:
        words = said.decode(errors="replace").strip()
        raise Unavailable(words.rpartition("\n")[2] or f"the schema was not made (status {process.returncode})")
