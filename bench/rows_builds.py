"""Rows about running builds: latency, throughput, big graphs."""

import asyncio
import os
import time
from collections.abc import Iterator

from bench.builds import Client, Workflow, client, many, one_step
from bench.context import Context
from bench.load import Connection
from bench.peers import SLOTS, Graph, alternate, layered, ninja, sandboxed, spawns
from bench.server import Server, serving
from bench.table import Figure, Spread, ms, rate, times

EXECUTORS = ("process", "sandbox")
CLOCK = 'echo "$EPOCHREALTIME"'
"""A step that says when it runs: bash expands it itself."""

LATENCY = "submit → first step running, idle server, no source"
THROUGHPUT = "one-step builds a second"
GRAPH = "DAG of `true`"


def latency(context: Context) -> Iterator[Figure]:
    """From the submission to the step's own first act, and to the client's knowledge of the end."""
    count = 30 if context.quick else 200
    for executor in EXECUTORS:
        with serving(executor, SLOTS) as server:
            load = os.getloadavg()[0]
            starts, ends, submits = asyncio.run(_one_after_another(server, count))
        yield Figure(row=LATENCY, what=f"POST answered, {executor}", value=str(submits), load=load)
        yield Figure(
            row=LATENCY,
            what=f"step running, {executor}",
            value=str(starts),
            bar="p50 ≤ 25 ms, p99 ≤ 100 ms",
            met=starts.p50 <= 0.025 and starts.p99 <= 0.1,
            load=load,
        )
        peer = context.buildbot.one_step
        yield Figure(
            row=LATENCY,
            what=f"one-step build, end to end, {executor}",
            value=str(ends),
            bar="≥ 20× faster",
            peer=f"Buildbot {peer}",
            ratio=times(peer.p50 / ends.p50),
            met=peer.p50 >= 20 * ends.p50,
            load=load,
        )


async def _one_after_another(server: Server, count: int) -> tuple[Spread, Spread, Spread]:
    starts, ends, submits = [], [], []
    async with client(server, one_step(CLOCK), 1) as bench:
        connection = bench.opened[0]
        for number in range(count + 5):
            begun = time.time()
            build = await bench.submit(connection)
            submitted = time.time()
            await bench.finished(connection, build, every=0.004)
            ended = time.time()
            said = await _printed(bench, connection, build)
            if number >= 5:
                starts.append(said - begun)
                ends.append(ended - begun)
                submits.append(submitted - begun)
            await asyncio.sleep(0.02)
    return Spread.of(starts), Spread.of(ends), Spread.of(submits)


async def _printed(bench: Client, connection: Connection, build: str) -> float:
    """The time that the only step printed, below what Buildyard says itself."""
    step = await bench.only_step(connection, build)
    _, data = await connection.call("GET", f"/api/steps/{step['id']}/logs")
    return float(data.split()[-1])


def throughput(context: Context) -> Iterator[Figure]:
    """Many one-step builds at once, beside Buildbot and loops that only spawn."""
    bars = {"process": 100, "sandbox": 40}
    bare = {"process": ["bash", "-c", "true"], "sandbox": sandboxed(["bash", "-c", "true"])}
    for executor in EXECUTORS:
        loop = spawns(bare[executor], 1 if context.quick else 3, 2)
        with serving(executor, SLOTS) as server:
            asyncio.run(many(server, one_step("true"), 20, SLOTS))
            load, before = os.getloadavg()[0], server.cpu()
            count = (100 if context.quick else 1000) // (1 if executor == "process" else 2)
            builds = asyncio.run(many(server, one_step("true"), count, 2 * SLOTS))
            used = server.cpu().since(before, count)
        yield Figure(
            row=THROUGHPUT,
            what=f"{executor}, {SLOTS} slots ({used})",
            value=rate(builds),
            bar=f"≥ {bars[executor]}/s",
            peer=f"Buildbot {rate(context.buildbot.builds)}",
            ratio=times(builds / context.buildbot.builds),
            met=builds >= bars[executor],
            load=load,
        )
        what = "`bash -c true`" if executor == "process" else "`bwrap … bash -c true`"
        yield Figure(
            row=THROUGHPUT,
            what=f"bare loop of {what}, 2 at a time",
            value=rate(loop),
            peer=f"Buildyard, {executor} {rate(builds)}",
            ratio=times(builds / loop),
            load=load,
        )


def graph(context: Context) -> Iterator[Figure]:
    """One build of many jobs, beside ninja on the same graph."""
    sizes = (100, 1000) if context.quick else (100, 1000, 10_000)
    costs: dict[int, float] = {}
    with serving("process", 2 * SLOTS) as server:
        asyncio.run(_run_graph(server, layered(40, 20)))
        for size in sizes:
            wanted = layered(size, 20)
            beside = alternate(lambda: ninja(wanted, context.scratch / "ninja", 2 * SLOTS), 3)  # noqa: B023 - run here
            load, before = os.getloadavg()[0], server.cpu()
            taken = asyncio.run(_run_graph(server, wanted))
            used = server.cpu().since(before, size)
            costs[size] = taken / size
            yield Figure(
                row=GRAPH,
                what=f"{size} jobs ({used})",
                value=f"{taken:.1f} s, {ms(taken / size)} a job",
                bar="≤ 3×" if size == 1000 else "",
                peer=f"ninja {beside:.2f} s, {ms(beside / size)} a job",
                ratio=times(taken / beside),
                met=taken <= 3 * beside if size == 1000 else None,
                load=load,
            )
    flat = max(costs.values()) / min(costs.values())
    yield Figure(
        row=GRAPH,
        what=f"dearest job of the sizes {', '.join(map(str, sizes))} beside the cheapest",
        value=times(flat),
        bar="flat: ≤ 1.5×",
        met=flat <= 1.5,
    )


async def _run_graph(server: Server, wanted: Graph) -> float:
    """Seconds from the submission of a graph, defined before, to the end of its build."""
    workflow = Workflow(scripts=dict.fromkeys(wanted.needs, "true"), needs=wanted.needs)
    async with client(server, workflow, 1) as bench:
        begun = time.perf_counter()
        build = await bench.submit(bench.opened[0])
        await bench.finished(bench.opened[0], build, every=0.02)
        return time.perf_counter() - begun
