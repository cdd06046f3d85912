"""Identifiers and the unit of time, so that the type checker tells them apart."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import NewType

AccountId = NewType("AccountId", int)
UserId = NewType("UserId", int)
TokenId = NewType("TokenId", int)
ProjectId = NewType("ProjectId", int)
PipelineId = NewType("PipelineId", int)
PipelineVersionId = NewType("PipelineVersionId", int)
RevisionId = NewType("RevisionId", int)
ChangeId = NewType("ChangeId", int)
EvaluationId = NewType("EvaluationId", int)
TriggerId = NewType("TriggerId", int)
BuildId = NewType("BuildId", int)
JobId = NewType("JobId", int)
AttemptId = NewType("AttemptId", int)
StepId = NewType("StepId", int)
LogId = NewType("LogId", int)
ArtifactId = NewType("ArtifactId", int)
ImageId = NewType("ImageId", int)
WorkerId = NewType("WorkerId", int)
LaneId = NewType("LaneId", int)
RequirementId = NewType("RequirementId", int)
NotificationId = NewType("NotificationId", int)
DeliveryId = NewType("DeliveryId", int)
GroupId = NewType("GroupId", int)
SubscriptionId = NewType("SubscriptionId", int)

Uid = NewType("Uid", str)
"""A UUIDv7 in its canonical text form: the identifier that Build Server and Containr clients see."""

Sha256 = NewType("Sha256", str)
"""A SHA-256 digest as 64 lower-case hexadecimal digits."""

Moment = NewType("Moment", int)
"""A point in time: microseconds since 1970-01-01 UTC."""

SECOND = 1_000_000
"""Microseconds in a second, the unit in which Moments differ."""


def iso(moment: Moment) -> str:
    """RFC 3339 text with milliseconds and `Z`, as JavaScript's `toISOString` prints it."""
    seconds, micros = divmod(moment, SECOND)
    return f"{_seconds_text(seconds)}.{micros // 1000:03}Z"


@lru_cache(maxsize=4096)
def _seconds_text(seconds: int) -> str:
    """Whole seconds; lists ask for the same ones again and again."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
