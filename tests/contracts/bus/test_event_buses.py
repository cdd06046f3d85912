"""What every event bus does, within one process and between servers."""

import asyncio

import asyncpg
import pytest

from buildyard.adapters.bus.postgres import PostgresBus, payloads
from buildyard.domain.errors import Unavailable
from buildyard.ports import EventBus

Pair = tuple[EventBus, EventBus]
LONG = 30.0


async def test_a_message_wakes_who_waits_on_every_server(buses: Pair) -> None:
    here, there = buses
    async with here.subscribe("build 7") as near, there.subscribe("build 7") as far:
        waiting = [asyncio.create_task(one.wait(LONG)) for one in (near, far)]
        await asyncio.sleep(0)

        await here.publish(["build 7"])

        assert await asyncio.gather(*waiting) == [True, True]


async def test_wake_ups_before_a_wait_are_kept_as_one(buses: Pair) -> None:
    here, there = buses
    async with there.subscribe("a") as listener, there.subscribe("b") as other:
        for _ in range(3):
            await here.publish(["a"])
        await here.publish(["b"])
        assert await other.wait(LONG)

        assert await listener.wait(LONG)
        assert not await listener.wait(0)


async def test_other_topics_do_not_wake(buses: Pair) -> None:
    here, there = buses
    async with there.subscribe("mine") as mine, there.subscribe("last") as last:
        await here.publish(["yours", "mine too", "last"])
        assert await last.wait(LONG)

        assert not await mine.wait(0)


async def test_a_wait_ends_after_its_time(buses: Pair) -> None:
    async with buses[0].subscribe("never") as listener:
        assert not await listener.wait(0.01)


async def test_a_subscription_counts_only_between_entry_and_exit(buses: Pair) -> None:
    here, there = buses
    listener = there.subscribe("t")
    async with there.subscribe("t") as witness:
        await here.publish(["t"])
        assert await witness.wait(LONG)
        async with listener:
            assert not await listener.wait(0)
            await here.publish(["t"])
            assert await listener.wait(LONG)
        await here.publish(["t"])
        assert await witness.wait(LONG)
        assert not await listener.wait(0)


async def test_many_topics_and_odd_ones_pass_at_once(buses: Pair) -> None:
    here, there = buses
    topics = [f"topic {number} " + "é" * (number % 90) for number in range(2_000)] + [
        "",
        "it's",
        '"quoted"',
        "x" * 7_000,
    ]
    listeners = [there.subscribe(topic) for topic in topics]
    for listener in listeners:
        await listener.__aenter__()

    await here.publish(topics)

    assert all(await asyncio.gather(*(listener.wait(LONG) for listener in listeners)))


def test_payloads_stay_below_the_limit_and_lose_nothing() -> None:
    topics = [f"{number}" * (number % 300) for number in range(3_000)]

    found = list(payloads("me", topics))

    assert all(len(payload.encode()) < 8_000 for payload in found)
    assert [topic for payload in found for topic in payload.split("\n")[1:]] == topics
    assert {payload.split("\n")[0] for payload in found} == {"me"}


async def drop_connections(url: str) -> int:
    """End all others' connections, as a restart of the database would."""
    connection = await asyncpg.connect(url)
    try:
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    finally:
        await connection.close()
    return len(ended)


async def test_after_a_lost_connection_every_listener_is_woken_once_and_messages_pass_again(bus_database: str) -> None:
    here, there = PostgresBus(bus_database), PostgresBus(bus_database)
    await here.open()
    await there.open()
    async with here.subscribe("a") as near, there.subscribe("b") as far, there.subscribe("c") as other:
        assert not await near.wait(0)

        assert await drop_connections(bus_database) == 2

        assert await asyncio.gather(*(listener.wait(LONG) for listener in (near, far, other))) == [True] * 3
        assert not any([await listener.wait(0) for listener in (near, far, other)])
        await here.publish(["b"])
        assert await far.wait(LONG)
        await there.publish(["a"])
        assert await near.wait(LONG)
        assert not await other.wait(0)
    await here.close()
    await there.close()


async def test_publishing_without_a_database_still_wakes_this_server(bus_database: str) -> None:
    bus = PostgresBus(bus_database)
    await bus.open()
    async with bus.subscribe("a") as listener:
        await drop_connections(bus_database)
        await bus.publish(["a"])
        assert await listener.wait(LONG)
    await bus.close()


async def test_two_channels_of_one_database_do_not_meet(bus_database: str) -> None:
    buses = [PostgresBus(bus_database, channel=channel) for channel in ("one", "two", "one")]
    for bus in buses:
        await bus.open()
    async with buses[1].subscribe("t") as stranger, buses[2].subscribe("t") as partner:
        await buses[0].publish(["t"])
        assert await partner.wait(LONG)
        assert not await stranger.wait(0)
    for bus in buses:
        await bus.close()


async def test_a_database_that_is_not_there_is_unavailable_at_the_start() -> None:
    bus = PostgresBus("postgresql://nobody@127.0.0.1:1/nothing")

    with pytest.raises(Unavailable):
        await bus.open()

    await bus.close()
