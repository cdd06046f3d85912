"""What there is to tell, and whom."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from buildyard.domain.ids import SECOND, Moment
from buildyard.domain.news import FailedJob, News
from buildyard.domain.notifications import Event, Target
from buildyard.domain.states import Phase, Result
from buildyard.ports import Notice
from receiving import Receiver, receiving

NEWS = News(
    event=Event.FINISHED,
    uid="0190aaaa-0000-7000-8000-000000000001",
    id=7,
    number=3,
    project_uid="0190aaaa-0000-7000-8000-000000000002",
    project="hello",
    pipeline_uid="0190aaaa-0000-7000-8000-000000000003",
    pipeline="main",
    pipeline_name="main",
    phase=Phase.FINISHED,
    result=Result.FAILURE,
    cause="",
    detail="",
    note="a note",
    restarts=0,
    jobs=2,
    repository="https://user:secret@example.org/hello.git",
    branch="topic",
    commit="c" * 40,
    message="Größer\n\nand better",
    author="Jürgen",
    submitter="bob",
    link="http://yard.example.org/-/api/v1/builds/7",
    created_at=Moment(1_800_000_000 * SECOND),
    started_at=Moment(1_800_000_001 * SECOND),
    finished_at=Moment(1_800_000_009 * SECOND),
    failures=1,
    failed=(FailedJob(job="tests", result=Result.FAILURE, cause="", detail="exit status 1", step="pytest",
                      tail=("first line", "\x1b[31mE   assert 1 == 2\x1b[0m")),),
)  # fmt: skip


def notice(target: Target, *, credential: str = "", address: str = "", **changes: Any) -> Notice:
    """A notice of NEWS, changed so."""
    return Notice(
        uid="0190aaaa-0000-7000-8000-00000000000d",
        target=target,
        news=replace(NEWS, **changes),
        credential=credential,
        address=address,
    )


@pytest.fixture
def make_notice() -> Callable[..., Notice]:
    """Makes notices."""
    return notice


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP server that remembers."""
    async with receiving() as made:
        yield made
