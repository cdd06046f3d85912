"""Delivering to a server's hooks, and seeing what came of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from apis.hooks.deliveries import Told, signed
from buildyard.domain.access import SYSTEM, Actor
from buildyard.domain.hooks import Forge
from buildyard.domain.ids import PipelineId, ProjectId, TriggerId
from buildyard.domain.specs import GitSource
from buildyard.domain.triggers import Spec
from buildyard.engine import builds as build_cases
from buildyard.store import builds, changes, pipelines, triggers
from buildyard.store.builds import BuildView
from buildyard.store.changes import Change
from buildyard.store.pipelines import Pipeline
from buildyard.store.transactions import Transaction
from world import World, job


@dataclass(frozen=True)
class Answered:
    """A status, and the answer's JSON."""

    status: int
    document: dict[str, Any]

    @property
    def message(self) -> str:
        return str(self.document["message"])

    @property
    def builds(self) -> list[str]:
        return list(self.document.get("builds", []))


@dataclass(frozen=True)
class Door:
    """The hooks of a server."""

    world: World
    url: str
    session: aiohttp.ClientSession

    async def deliver(self, forge: Forge, told: Told, hook: str = "", **headers: str) -> Answered:
        """Deliver as the forge does."""
        all_headers = {**signed(forge, told.event, told.body), **headers}
        return await self.post(f"{forge.value}/{hook or forge.value}", told.body, all_headers)

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> Answered:
        async with self.session.post(f"{self.url}/-/hooks/{path}", data=body, headers=headers) as response:
            return Answered(response.status, await response.json())

    async def send_all(self, forge: Forge, told: Told, count: int) -> list[Answered]:
        return await asyncio.gather(*(self.deliver(forge, told) for _ in range(count)))

    async def watch(self, spec: Spec, *urls: str, name: str = "on-push") -> list[Pipeline]:
        """A trigger of pipelines that build these repositories."""
        made = [await self.world.define(job("a")) for _ in urls]
        for pipeline, url in zip(made, urls, strict=True):
            source = GitSource(url=url, branch="main")
            await self.world.engine.run(set_source, SYSTEM, pipeline.id, source)
        await self.world.engine.run(add_trigger, SYSTEM, self.world.project.id, spec, [one.id for one in made], name)
        return made

    async def builds(self) -> list[BuildView]:
        """All builds, the oldest first."""
        found, _ = await self.world.engine.read(
            build_cases.list_builds, self.world.administrator, self.world.project.uid, limit=500, offset=0
        )
        return sorted(found, key=lambda view: view.build.id)

    async def changes(self) -> list[Change]:
        """All changes of the project."""
        return await self.world.engine.read(changes_of, SYSTEM, self.world.project.id)

    async def reasons_of(self, view: BuildView) -> list[Change]:
        """The changes that started a build."""
        return await self.world.engine.read(reasons, SYSTEM, view)


async def set_source(tx: Transaction, _actor: Actor, pipeline: PipelineId, source: GitSource) -> None:
    await pipelines.set_source(tx, pipeline, source, enabled=True)


async def add_trigger(
    tx: Transaction, _actor: Actor, project: ProjectId, spec: Spec, targets: Sequence[PipelineId], name: str
) -> TriggerId:
    made = await triggers.add(tx, project=project, name=name, spec=spec, defined_by="test")
    await triggers.set_pipelines(tx, made.id, targets)
    return made.id


async def changes_of(tx: Transaction, _actor: Actor, project: ProjectId) -> list[Change]:
    return await changes.of_project(tx, project)


async def reasons(tx: Transaction, _actor: Actor, view: BuildView) -> list[Change]:
    return await changes.of_evaluation(tx, (await builds.get(tx, view.build.id)).evaluation)
