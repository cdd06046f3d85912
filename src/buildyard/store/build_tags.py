"""The tags of builds, and the secrets that they may have."""

from collections.abc import Iterable, Sequence

from sqlalchemy import select

from buildyard.domain.ids import BuildId
from buildyard.store.statements import Statement, given, insertion
from buildyard.store.tables import build_secrets, build_tags
from buildyard.store.transactions import Transaction

ADD = insertion(build_tags)
OF_BUILD = Statement(
    select(build_tags.c.build, build_tags.c.tag)
    .where(build_tags.c.build == given("of"))
    .order_by(build_tags.c.position)
)
ADD_SECRET = insertion(build_secrets)
SECRETS_OF_BUILDS = Statement(
    select(build_secrets.c.build, build_secrets.c.secret)
    .where(build_secrets.c.build == given("of"))
    .order_by(build_secrets.c.secret)
)
SECRETS_OF_BUILD = Statement(
    select(build_secrets.c.secret).where(build_secrets.c.build == given("of")).order_by(build_secrets.c.secret)
)


async def add(tx: Transaction, build: BuildId, tags: Sequence[str]) -> None:
    """Tag a new build, in this order."""
    await tx.execute_many(ADD, [{"build": build, "position": i, "tag": tag} for i, tag in enumerate(tags)])


async def of_builds(tx: Transaction, keys: Iterable[BuildId]) -> dict[BuildId, tuple[str, ...]]:
    """The tags of builds, in their order; builds without any are left out."""
    found: dict[BuildId, tuple[str, ...]] = {}
    for build, tag in await tx.fetch_many(OF_BUILD, [{"of": key} for key in keys]):
        found[build] = (*found.get(build, ()), tag)
    return found


async def add_secrets(tx: Transaction, build: BuildId, secrets: Iterable[int]) -> None:
    """Note which secrets a new build may have."""
    await tx.execute_many(ADD_SECRET, [{"build": build, "secret": key} for key in sorted(set(secrets))])


async def secrets_of_builds(tx: Transaction, keys: Iterable[BuildId]) -> dict[BuildId, list[int]]:
    """The ids of the secrets that these builds may have."""
    found: dict[BuildId, list[int]] = {}
    for build, secret in await tx.fetch_many(SECRETS_OF_BUILDS, [{"of": key} for key in keys]):
        found.setdefault(build, []).append(secret)
    return found


async def secrets_of(tx: Transaction, build: BuildId) -> list[int]:
    """The ids of the secrets that a build may have."""
    return [int(row[0]) for row in await tx.fetch(SECRETS_OF_BUILD, of=build)]
