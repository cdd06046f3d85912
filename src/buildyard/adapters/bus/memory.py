"""Wake-ups within one process, and the listeners that all buses share."""

import asyncio
from collections.abc import Iterable, Sequence


class Listeners:
    """Who waits for what, in this process."""

    def __init__(self) -> None:
        self._by_topic: dict[str, set[Listener]] = {}

    def add(self, listener: "Listener") -> None:
        """Start to wake a listener."""
        self._by_topic.setdefault(listener.topic, set()).add(listener)

    def discard(self, listener: "Listener") -> None:
        """Stop to wake a listener, known or not."""
        listeners = self._by_topic.get(listener.topic, set())
        listeners.discard(listener)
        if not listeners:
            self._by_topic.pop(listener.topic, None)

    def wake(self, topics: Iterable[str]) -> None:
        """Wake all listeners of these topics."""
        for topic in topics:
            for listener in self._by_topic.get(topic, ()):
                listener.wake()

    def wake_all(self) -> None:
        """Wake all listeners of all topics, since messages may have been lost."""
        self.wake(list(self._by_topic))


class Listener:
    """A Subscription; counts from the moment it is entered."""

    def __init__(self, topic: str, listeners: Listeners) -> None:
        self.topic = topic
        self._listeners = listeners
        self._woken = asyncio.Event()

    async def __aenter__(self) -> "Listener":
        self._listeners.add(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._listeners.discard(self)

    def wake(self) -> None:
        """Let the present or next `wait` return."""
        self._woken.set()

    async def wait(self, timeout: float | None = None) -> bool:
        """See Subscription. One task at a time may wait."""
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class MemoryBus:
    """An EventBus for a single server."""

    def __init__(self) -> None:
        self._listeners = Listeners()

    async def publish(self, topics: Sequence[str]) -> None:
        """See EventBus."""
        self._listeners.wake(topics)

    def subscribe(self, topic: str) -> Listener:
        """See EventBus."""
        return Listener(topic, self._listeners)
