"""Every story ends with a look at all that must be true of the database."""

from collections.abc import AsyncIterator

import pytest

from buildyard.domain.access import SYSTEM
from buildyard.engine.engine import Engine
from invariants import check_invariants
from world import Clock, World, settle_in


@pytest.fixture
async def world(engine: Engine, clock: Clock) -> AsyncIterator[World]:
    """An engine with an administrator, an owner and his project, over each kind of database."""
    made = await settle_in(engine, clock)
    yield made
    await engine.read(check_invariants, SYSTEM)
