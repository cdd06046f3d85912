"""Mail about jobs that have ended, in the layout of builds.sr.ht: a subject to filter by, a few lines to read."""

from collections.abc import Sequence
from dataclasses import dataclass

SIGNS = {"success": "✓", "failed": "✗"}
NAMELESS = "builds.sr.ht"
"""What stands in the subject for tags where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """A job as mail tells it; `tags` are joined by slashes, `tasks` are names with their statuses."""

    id: int
    status: str
    tags: str
    note: str
    image: str
    url: str
    seconds: int
    tasks: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A mail without its envelope."""

    subject: str
    body: str


def duration(seconds: int) -> str:
    """`1h2m3s`, with what is large enough to count."""
    minutes, rest = divmod(max(0, seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h"] * bool(hours) + [f"{minutes}m"] * bool(hours or minutes)
    return "".join([*parts, f"{rest}s"])


def job_mail(job: JobLine) -> Text:
    """One job has ended. Tasks whose names begin with an underscore are nobody's business."""
    tasks = " ".join(f"{SIGNS.get(status, '-')} {name}" for name, status in job.tasks if not name.startswith("_"))
    head = f"{job.tags or 'Job'} #{job.id}: {job.status.upper()} in {duration(job.seconds)}"
    parts = [head, job.note, job.url, tasks]
    return Text(_subject(job.tags, job.status), "\n\n".join(part for part in parts if part))


def group_mail(jobs: Sequence[JobLine], *, note: str, seconds: int) -> Text:
    """All jobs of a group have ended; it is called by the tags that all of them begin with."""
    tags, status = common_tags(jobs), group_status(jobs)
    head = f"{tags or 'Job group'}: {status.upper()} in {duration(seconds)}"
    widths = [max((len(text(job)) for job in jobs), default=0) for text in (_status_of, _name_of)]
    lines = "\n".join(
        f"{'✓' if job.status == 'success' else '✗'} #{job.id} {_status_of(job):<{widths[0]}} "
        f"{_name_of(job):<{widths[1]}} {job.url}"
        for job in jobs
    )
    return Text(_subject(tags, status), "\n\n".join(part for part in (head, note, lines) if part))


def common_tags(jobs: Sequence[JobLine]) -> str:
    """The tags that all jobs begin with, among those that have any."""
    tagged = [job.tags.split("/") for job in jobs if job.tags]
    common: list[str] = []
    for tags in zip(*tagged, strict=False):
        if len(set(tags)) > 1:
            break
        common.append(tags[0])
    return "/".join(common)


def group_status(jobs: Sequence[JobLine]) -> str:
    """`success` if every job succeeded, else how the last one ended that did not."""
    return next((job.status for job in reversed(jobs) if job.status != "success"), "success")


def _subject(tags: str, status: str) -> str:
    return f"[{tags or NAMELESS}] build {status}"


def _status_of(job: JobLine) -> str:
    return job.status.upper()


def _name_of(job: JobLine) -> str:
    return job.tags or job.image
