"""What resolvers are given: who asks, how to load by key without loading one by one, and what may still be spent."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from graphql import GraphQLResolveInfo

from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig
from buildyard.domain.access import Actor
from buildyard.domain.errors import TooLarge
from buildyard.domain.user_webhooks import Occasion
from buildyard.engine.engine import Engine

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Resolvers = Mapping[str, Mapping[str, Callable[..., Any]]]
"""Functions for fields, by type and name."""

Load = Callable[[Any, Actor, Sequence[K]], Coroutine[Any, Any, Mapping[K, V]]]
"""A use-case that loads many things by their keys; what the actor may not see is left out."""


class _Batch(Generic[K, V]):
    """Keys asked for at the same time, loaded together."""

    def __init__(self, context: "Context", load: Load[K, V]) -> None:
        self._context = context
        self._load = load
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, key: K) -> "asyncio.Future[V | None]":
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._start)
        if key not in self._waiting:
            self._waiting[key] = loop.create_future()
        return self._waiting[key]

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, {}
        task = asyncio.create_task(self._run(waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, waiting: "dict[K, asyncio.Future[V | None]]") -> None:
        try:
            found = await self._context.engine.read(self._load, self._context.actor, list(waiting))
        except Exception as exc:  # noqa: BLE001 - every one who waits is told
            for future in waiting.values():
                if not future.done():
                    future.set_exception(exc)
                    future.exception()  # it counts as seen even if nobody waits any more
            return
        for key, future in waiting.items():
            if not future.done():
                future.set_result(found.get(key))


@dataclass(slots=True)
class Spent:
    """What an answer holds so far."""

    objects: int = 0
    tails: int = 0


class Context:
    """One query's surroundings. Nothing is remembered beyond a batch, so that a mutation's outcome is never stale."""

    def __init__(self, engine: Engine, actor: Actor, config: GraphqlConfig, webhook: Occasion | None = None) -> None:
        self.engine = engine
        self.actor = actor
        self.config = config
        self.webhook = webhook
        self._batches: dict[object, _Batch[Any, Any]] = {}
        self._spent = Spent()

    async def load(self, use_case: Load[K, V], key: K) -> V | None:
        """What belongs to a key; those asked for at the same time are loaded together."""
        found: V | None = await asyncio.shield(self._batch(use_case).get(key))
        return found

    async def load_many(self, use_case: Load[K, V], keys: Sequence[K]) -> list[V]:
        """What belongs to these keys, in their order, as far as there is anything."""
        batch = self._batch(use_case)
        found: list[V | None] = await asyncio.gather(*[asyncio.shield(batch.get(key)) for key in keys])
        return [each for each in found if each is not None]

    def _batch(self, use_case: Load[K, V]) -> _Batch[K, V]:
        found: _Batch[K, V] = self._batches.setdefault(use_case, _Batch(self, use_case))
        return found

    def spend(self, *, objects: int = 0, tails: int = 0) -> None:
        """Count what the answer holds; raises TooLarge once that is too much."""
        self._spent.objects += objects
        self._spent.tails += tails
        if self._spent.objects > self.config.objects:
            raise TooLarge(f"the answer would hold more than {self.config.objects} objects: ask for less at once")
        if self._spent.tails > self.config.tails:
            raise TooLarge(f"the answer would hold the ends of more than {self.config.tails} logs: use fullURL")


Info: TypeAlias = GraphQLResolveInfo[Context]
"""What a resolver is told of its field."""
