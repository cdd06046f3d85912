"""What a person's own webhooks hear of."""

from dataclasses import dataclass
from enum import StrEnum

from buildyard.domain.ids import BuildId, Moment, Uid


class JobEvent(StrEnum):
    """What happened to a job; the words are those of the webhooks."""

    CREATED = "JOB_CREATED"
    UPDATED = "JOB_UPDATED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """One event that one webhook is told of; `uid` is the delivery's."""

    uid: Uid
    event: JobEvent
    at: Moment
    build: BuildId
