"""`buildyard queue` and `buildyard approve`."""

from buildyard.cli.connection import connected
from buildyard.cli.output import console, duration, print_json, print_table, seconds_between
from buildyard.client.messages import QueueItem, Verdict


async def show_queue(project: str, limit: int, *, as_json: bool) -> None:
    """What runs, what is queued, what waits for what."""
    async with connected() as client:
        found = await client.queue(project=project, limit=limit)
    if as_json:
        print_json(found)
        return
    items = [*found.running, *found.queued, *found.waiting]
    if not items:
        console().print("nothing runs or waits")
        return
    print_table(("state", "build", "pipeline", "job", "for", "what"), [_row(one) for one in items], styled=0)
    if found.queued_total > len(found.queued):
        console().print(f"{found.queued_total} jobs are queued; --limit shows more of them")


def _row(one: QueueItem) -> tuple[str, ...]:
    return (
        one.state,
        str(one.build),
        f"{one.project}/{one.pipeline}",
        one.job or "(all)",
        duration(seconds_between(one.since, None)),
        _what(one),
    )


def _what(one: QueueItem) -> str:
    if one.blocker is not None:
        return f"waits for {one.blocker.detail}"
    return f"on {one.worker}" if one.worker else f"number {one.position} in its queue"


async def answer(build: str, job: str, reason: str, *, granted: bool, as_json: bool) -> None:
    """Approve or reject what waits for it."""
    async with connected() as client:
        found = await client.answer(build, Verdict(granted=granted, job=job, reason=reason))
    if as_json:
        print_json(found)
        return
    word = "approved" if granted else "rejected"
    for name in found.jobs:
        what = f"job {name} of build {found.build.id}" if name else f"build {found.build.id}"
        console().print(f"{word} {what}", markup=False)
