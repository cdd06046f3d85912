"""What is kept and for how long: bounds by age, count and size, of the server, a project or a pipeline."""

from dataclasses import dataclass
from enum import StrEnum

from buildyard.domain.ids import SECOND, BuildId, Moment

DAY = 86_400 * SECOND


class What(StrEnum):
    """What a rule is about."""

    BUILDS = "builds"
    ARTIFACTS = "artifacts"
    LOGS = "logs"
    CACHES = "caches"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: of the last `days`, the newest `count`, at most `size` bytes.

    0 is no bound. In a rule of a project or pipeline None means: as the next wider one says.
    """

    days: int | None = None
    count: int | None = None
    size: int | None = None

    @property
    def bounds_anything(self) -> bool:
        """Whether anything may have to go."""
        return bool(self.days or self.count or self.size)


NO_BOUNDS = Bounds(0, 0, 0)


def narrowed(wide: Bounds, narrow: Bounds | None) -> Bounds:
    """The wider rule, with what the narrower one says in its place."""
    if narrow is None:
        return wide
    return Bounds(
        wide.days if narrow.days is None else narrow.days,
        wide.count if narrow.count is None else narrow.count,
        wide.size if narrow.size is None else narrow.size,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where a rule cuts the builds of a pipeline, by id and by time; None: it does not cut there.

    What finished before `before`, or has an id up to `by_count` or `by_size`, is beyond it.
    """

    before: Moment | None = None
    by_count: BuildId | None = None
    by_size: BuildId | None = None

    def is_beyond(self, build: BuildId, finished_at: Moment) -> bool:
        """Whether a finished build is too old, too far back, or more than fits."""
        return (self.before is not None and finished_at < self.before) or build <= max(
            self.by_count or 0, self.by_size or 0
        )

    def ends_before(self, build: BuildId, created_at: Moment) -> bool:
        """Whether neither this build nor any after it can be beyond."""
        return (self.before is None or created_at >= self.before) and build > max(self.by_count or 0, self.by_size or 0)
