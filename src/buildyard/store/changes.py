"""Changes: what happened in repositories, and which of it started an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import select

from buildyard.domain.ids import ChangeId, EvaluationId, Moment, ProjectId, RevisionId
from buildyard.store.statements import Row, Statement, given, insertion
from buildyard.store.tables import changes, evaluation_changes
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A commit that we heard of. `files` are those that it touched; empty also where they were not told.

    `category` is push, pull request or poll; `parent` the change before it, if both came at once.
    """

    id: ChangeId
    project: ProjectId
    revision: RevisionId
    committer: str
    files: tuple[str, ...]
    category: str
    link: str
    parent: ChangeId | None
    committed_at: Moment | None
    created_at: Moment


_CHANGE = tuple(changes.columns)
ADD = insertion(changes)
ADD_TO_EVALUATION = insertion(evaluation_changes)
OF_EVALUATION = Statement(
    select(*_CHANGE)
    .select_from(evaluation_changes.join(changes, changes.c.id == evaluation_changes.c.change))
    .where(evaluation_changes.c.evaluation == given("of"))
    .order_by(evaluation_changes.c.change)
)
OF_PROJECT = Statement(
    select(*_CHANGE)
    .where(changes.c.project == given("within"), changes.c.id > given("after"))
    .order_by(changes.c.id)
    .limit(given("most"))
)

_files = msgspec.json.Decoder(tuple[str, ...]).decode


def _change(row: Row) -> Change:
    key, project, revision, committer, files, category, link, parent, committed_at, created_at = row
    return Change(
        id=key,
        project=project,
        revision=revision,
        committer=committer,
        files=_files(files),
        category=category,
        link=link,
        parent=parent,
        committed_at=committed_at,
        created_at=created_at,
    )


async def add(
    tx: Transaction,
    project: ProjectId,
    revision: RevisionId,
    *,
    committer: str,
    files: Sequence[str],
    category: str,
    link: str,
    parent: ChangeId | None,
    committed_at: Moment | None,
) -> ChangeId:
    """Note a change."""
    (key,) = await tx.allocate("changes")
    await tx.execute(
        ADD,
        id=key,
        project=project,
        revision=revision,
        committer=committer,
        files=msgspec.json.encode(tuple(files)).decode(),
        category=category,
        link=link,
        parent=parent,
        committed_at=committed_at,
        created_at=tx.now,
    )
    return ChangeId(key)


async def add_to_evaluation(tx: Transaction, evaluation: EvaluationId, started_by: Sequence[ChangeId]) -> None:
    """Say which changes started an evaluation."""
    await tx.execute_many(ADD_TO_EVALUATION, [{"evaluation": evaluation, "change": one} for one in started_by])


async def of_evaluation(tx: Transaction, evaluation: EvaluationId) -> list[Change]:
    """The changes that started an evaluation, the oldest first."""
    return [_change(row) for row in await tx.fetch(OF_EVALUATION, of=evaluation)]


async def of_project(tx: Transaction, project: ProjectId, *, after: int = 0, limit: int = 100) -> list[Change]:
    """A project's changes with ids above `after`, the oldest first."""
    return [_change(row) for row in await tx.fetch(OF_PROJECT, within=project, after=after, most=limit)]
