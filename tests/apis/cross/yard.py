"""A whole server with every API on one port, the people who look at it, and a worker that does as it is told."""

from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from buildyard.domain.access import SYSTEM, Actor, Role
from buildyard.domain.states import Result
from buildyard.engine import build_lists, builds, files, identity
from buildyard.protocol import Finished, OutputFile
from buildyard.store import identity as people
from buildyard.store.builds import BuildView
from buildyard.store.transactions import Transaction
from world import WORKER, Hand, World, one_piece

SETUP, TASK, KEPT = b"setup\n", b"hello\n", b"bytes of the artifact\n"
WHO = ("anonymous", "stranger", "member", "submitter")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        """Whether it went well."""
        return 200 <= self.status < 300


@dataclass
class Yard:
    """The server, and requests to it by each of WHO. All builds are submitted by the owner, `bob`."""

    world: World
    url: str
    session: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)

    async def settle(self) -> None:
        """Make the people: a member is a developer of all that the owner has."""
        stranger, member = await self.world.user("eve"), await self.world.user("mary")
        account, user = self.world.owner.account, member.user
        assert account is not None
        assert user is not None

        async def join(tx: Transaction, _actor: Actor) -> None:
            await people.add_member(tx, user, Role.DEVELOPER, account=account)

        await self.world.engine.run(join, SYSTEM)
        for who, actor in {"stranger": stranger, "member": member, "submitter": self.world.owner}.items():
            made = await self.world.engine.run(
                identity.create_token, self.world.administrator, actor.name, ("*",), name="cross"
            )
            self.tokens[who] = made.secret

    async def call(self, method: str, address: str, by: str, body: object = None) -> Answer:
        """One request; JSON comes back parsed, all else as bytes."""
        headers = {"Authorization": f"Bearer {self.tokens[by]}"} if by in self.tokens else {}
        path = URL(address).raw_path_qs if address.startswith("http") else address
        url = URL(self.url + path, encoded=True)
        async with self.session.request(method, url, headers=headers, json=body) as response:
            data = await response.read()
            is_json = response.headers.get("content-type", "").startswith("application/json")
            return Answer(response.status, await response.json() if data and is_json else data)

    async def get(self, address: str, by: str) -> Answer:
        """GET."""
        return await self.call("GET", address, by)

    async def must(self, method: str, path: str, body: object = None, by: str = "submitter") -> Any:
        """What a request that has to go well answers."""
        answer = await self.call(method, path, by, body)
        assert answer.ok, (method, path, answer)
        return answer.body

    async def view(self, uid: str) -> BuildView:
        """A build as the engine knows it."""
        return await self.world.engine.read(builds.get_build, SYSTEM, uid)

    async def listed(self) -> tuple[list[BuildView], int]:
        """All builds, newest first, and their number."""
        return await self.world.engine.read(build_lists.list_visible_builds, SYSTEM, limit=10, offset=0)

    async def worker(self) -> "Worker":
        """A worker that has nothing yet."""
        return Worker(await self.world.hand())


@dataclass
class Worker:
    """Runs the only queued job, as far as it is told to."""

    hand: Hand

    async def begin(self) -> None:
        """Take the job, and write what its setup and its one task write."""
        hand, grant = self.hand, await self.hand.take()
        await hand.report(
            hand.started(grant),
            hand.step_started(grant, 0),
            hand.output(grant, 0, SETUP),
            hand.step_finished(grant, 0),
            hand.step_started(grant, 1),
            hand.output(grant, 1, TASK),
        )

    async def end(self, word: str) -> None:
        """End it in `success`, with an artifact, or `failed`."""
        hand, (grant,) = self.hand, self.hand.held.values()
        result, outputs = Result.FAILURE, []
        if word == "success":
            blob = await files.store_blob(hand.world.engine, WORKER, one_piece(KEPT))
            result, outputs = Result.SUCCESS, [OutputFile(path="out", sha256=blob.sha256, size=blob.size, mode=0o644)]
        done = Finished(attempt=grant.attempt, token=grant.token, result=result, outputs=outputs)
        await hand.report(hand.step_finished(grant, 1, result), done)
