"""Any story of appends, repeats and seals reads the same as plain data would."""

import asyncio
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildyard.adapters.logs.chunked import ChunkedLogs
from buildyard.adapters.logs.local import LocalLogStore
from buildyard.adapters.logs.objects import S3LogStore
from buildyard.adapters.object_store import connect_s3
from buildyard.domain.errors import Conflict
from buildyard.domain.ids import LogId, Moment
from buildyard.domain.states import Stream
from buildyard.ports import Chunk, Line, LogState

LOG = LogId(1_002_003)

texts = st.one_of(
    st.binary(max_size=12),
    st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\r\n"]), max_size=8).map(b"".join),
    st.builds(
        lambda size, tail: b"w" * size + tail, st.integers(60_000, 140_000), st.sampled_from([b"", b"\n", b"\nx"])
    ),
)
pieces = st.tuples(st.sampled_from(list(Stream)), texts)
stories = st.lists(st.tuples(st.lists(pieces, max_size=4), st.integers(0, 30), st.booleans()), min_size=1, max_size=8)


Run = tuple[Stream, int, bytes]


def merged(runs: list[Run]) -> list[Run]:
    """The same bytes with neighbours of one stream and time put together."""
    found: list[tuple[Stream, int, bytearray]] = []
    for stream, at, data in runs:
        if found and found[-1][:2] == (stream, at):
            found[-1][2].extend(data)
        elif data:
            found.append((stream, at, bytearray(data)))
    return [(stream, at, bytes(data)) for stream, at, data in found]


def from_byte(runs: list[Run], start: int) -> list[Run]:
    """The runs without their first `start` bytes."""
    left = []
    for stream, at, data in runs:
        left.append((stream, at, data[start:]))
        start = max(0, start - len(data))
    return merged(left)


@dataclass
class Model:
    """The log as plain data: runs of bytes of one stream and time, and whether it is sealed."""

    runs: list[Run] = field(default_factory=list)
    sealed: bool = False

    @property
    def data(self) -> bytes:
        return b"".join(data for _, _, data in self.runs)

    def append(self, offset: int, chunks: list[Chunk]) -> bool:
        """False if it must be refused."""
        new = from_byte([(chunk.stream, chunk.at, chunk.data) for chunk in chunks], len(self.data) - offset)
        if self.sealed and new:
            return False
        self.runs += new
        return True

    def lines(self) -> list[Line]:
        found: list[tuple[Stream, int, bytes]] = []
        unfinished = False
        for stream, at, data in self.runs:
            for part in re.findall(rb"[^\n]*\n|[^\n]+", data):
                if unfinished and found[-1][0] is stream:
                    found[-1] = (stream, found[-1][1], found[-1][2] + part)
                else:
                    found.append((stream, at, part))
                unfinished = not part.endswith(b"\n")
        return [Line(n, stream, Moment(at), text.removesuffix(b"\n")) for n, (stream, at, text) in enumerate(found)]


async def check(logs: ChunkedLogs, model: Model, first: int, count: int, start: int) -> None:
    expected = model.lines()
    assert await logs.state(LOG) == LogState(len(model.data), len(expected), sealed=model.sealed)
    assert b"".join([piece async for piece in logs.read(LOG, start)]) == model.data[start:]
    stop = start + count
    assert b"".join([piece async for piece in logs.read(LOG, start, stop)]) == model.data[start:stop]
    assert await logs.lines(LOG, 0, len(expected) + 1) == expected
    assert await logs.lines(LOG, first, count) == expected[first : first + count]
    tail = max(0, len(expected) - first - 1)
    assert await logs.lines(LOG, -first - 1, count) == expected[tail : tail + count]


async def follow(logs: ChunkedLogs, start: int) -> list[Run]:
    return merged([(chunk.stream, chunk.at, chunk.data) async for chunk in logs.follow(LOG, start)])


Story = list[tuple[list[tuple[Stream, bytes]], int, bool]]


async def play(logs: ChunkedLogs, story: Story, seal_at: int, looks: tuple[int, int, int]) -> None:
    model = Model()
    await logs.append(LOG, 0, [])
    followers = [asyncio.create_task(follow(logs, start)) for start in (0, looks[2])]
    for step, (added, overlap, look) in enumerate(story):
        offset = max(0, len(model.data) - overlap)
        chunks = [Chunk(Stream.HEADER, Moment(step), model.data[offset:])]
        chunks += [Chunk(stream, Moment(step * 10 + index), data) for index, (stream, data) in enumerate(added)]
        if model.append(offset, chunks):
            await logs.append(LOG, offset, chunks)
        else:
            with pytest.raises(Conflict):
                await logs.append(LOG, offset, chunks)
        if step == seal_at:
            await logs.seal(LOG)
            model.sealed = True
        if look:
            await check(logs, model, *looks)
    await logs.seal(LOG)
    model.sealed = True
    await check(logs, model, *looks)
    async with asyncio.timeout(60):
        assert await asyncio.gather(*followers) == [merged(model.runs), from_byte(model.runs, looks[2])]
    await logs.remove(LOG)


looks = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 300))


@pytest.mark.covers("logs.lines")
@settings(max_examples=150, deadline=None)
@given(story=stories, seal_at=st.integers(0, 12), looks=looks)
def test_any_story_on_the_local_disk_reads_as_the_model_says(
    story: Story, seal_at: int, looks: tuple[int, int, int]
) -> None:
    async def told() -> None:
        with tempfile.TemporaryDirectory() as folder:
            logs = LocalLogStore(Path(folder))
            await play(logs, story, seal_at, looks)
            await logs.close()

    asyncio.run(told())


@pytest.mark.covers("logs.lines")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=stories, seal_at=st.integers(0, 12), looks=looks)
def test_any_story_with_sealed_logs_in_s3_reads_as_the_model_says(
    s3_url: str, story: Story, seal_at: int, looks: tuple[int, int, int]
) -> None:
    async def told() -> None:
        bucket = connect_s3("buildyard", access_key_id="any", secret_access_key="any", endpoint=s3_url)
        with tempfile.TemporaryDirectory() as folder:
            logs = S3LogStore(Path(folder), bucket, prefix=f"model-{uuid4().hex}/")
            await play(logs, story, seal_at, looks)
            await logs.close()

    asyncio.run(told())
