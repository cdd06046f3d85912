"""Gathers what triggers tell of: one build that has ended, or all builds of a group."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.ids import BuildId, GroupId
from buildyard.engine.build_groups import GroupView
from buildyard.engine.engine import Engine
from buildyard.engine.job_sheets import JobSheet, sheets_of
from buildyard.store import builds, groups, pipelines
from buildyard.store.transactions import Transaction

if TYPE_CHECKING:
    from buildyard.store.deliveries import Delivery


@dataclass(frozen=True, slots=True)
class Told:
    """A build with the name of its image, or, with a `group`, all builds of that."""

    group: GroupView | None
    jobs: tuple[tuple[JobSheet, str], ...]


async def read_told(engine: Engine, message: "Delivery") -> Told:
    """What there is to tell now; NotFound if it was deleted. Whoever made the trigger sees all of it."""
    return await engine.read(_told, SYSTEM, message.build, message.group)


async def _told(tx: Transaction, _actor: Actor, build: BuildId, group: GroupId | None) -> Told:
    found = await groups.get(tx, group) if group is not None else None
    keys = await groups.builds_of(tx, found.id) if found is not None else [build]
    views = [await builds.view(tx, key) for key in keys]
    sheets = [(sheet, await _image(tx, sheet)) for sheet in await sheets_of(tx, views)]
    return Told(GroupView(found, tuple(views)) if found is not None else None, tuple(sheets))


async def _image(tx: Transaction, sheet: JobSheet) -> str:
    """What a build without tags is called by; others have no need of it."""
    if sheet.tags:
        return ""
    jobs = (await pipelines.spec_of(tx, sheet.view.build.pipeline_version)).jobs
    return jobs[0].image if jobs else ""
