"""Every state of ours has its words in every API, and they are those of the agreed table."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from buildyard.apis.build_server import states as build_server
from buildyard.apis.buildbot import states as buildbot
from buildyard.apis.buildbot.states import Request, Run
from buildyard.apis.containr import states as containr
from buildyard.apis.hydra import states as hydra
from buildyard.apis.hydra.states import BuildState, StepState
from buildyard.apis.sourcehut import states as sourcehut
from buildyard.apis.states import StateTable
from buildyard.domain.builds import State
from buildyard.domain.states import ALLOWED_CAUSES, Cause, Phase, Result

pytestmark = pytest.mark.covers("engine.states.mappings")


def every_state() -> list[State]:
    going = [State(phase=phase) for phase in Phase if phase is not Phase.FINISHED]
    ended = [
        State(phase=Phase.FINISHED, result=result, cause=cause)
        for result in Result
        for cause in sorted({Cause.NONE, *ALLOWED_CAUSES[result]})
    ]
    return [*going, *ended, State(phase=Phase.FINISHED, lost=True)]


STATES = every_state()


def name_of(value: object) -> str:
    if not isinstance(value, State):
        return str(value)
    parts = (value.phase.name, value.result.word if value.result is not None else "", value.cause)
    return "lost" if value.lost else "-".join(part for part in parts if part).lower()


JOB_WORDS = {"pending", "queued", "running", "success", "failed", "timeout", "cancelled"}
TASK_WORDS = {"pending", "running", "success", "failed", "skipped"}
BUILD_STATUSES = {0, 1, 2, 3, 4, 6, 7, 9, 10, 11, 12}


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("state", STATES, ids=name_of)
def test_every_state_has_a_legal_word_in_every_api(state: State, started: bool) -> None:
    assert build_server.BUILD.of(state) in {"PENDING", "RUNNING", "SUCCESS", "FAILED"}
    assert build_server.STEP.of(state) in {"PENDING", "RUNNING", "SUCCESS", "FAILED"}
    assert (build_server.reason(state) is None) == (state.result is None)
    assert sourcehut.JOB.of(state) in JOB_WORDS
    assert sourcehut.task(state, started=started) in TASK_WORDS
    assert containr.BUILD.of(state) in {"pending", "running", "success", "failed", "cancelled"}
    assert 0 <= containr.progress(state, steps_done=3, steps_total=3) <= 100
    assert hydra.BUILD.of(state).buildstatus in BUILD_STATUSES | {None}
    request = buildbot.REQUEST.of(state)
    assert request.claimed or not request.complete
    for run in (buildbot.build(state, started=started), buildbot.step(state, started=started)):
        assert run is None or run.complete == (run.results is not None)


@pytest.mark.parametrize("state", STATES, ids=name_of)
def test_work_is_over_in_all_apis_or_in_none(state: State) -> None:
    over = state.result is not None

    assert (build_server.BUILD.of(state) in {"SUCCESS", "FAILED"}) == over
    assert (sourcehut.JOB.of(state) not in {"pending", "queued", "running"}) == over
    assert buildbot.REQUEST.of(state).complete == over
    assert (buildbot.REQUEST.of(state).results >= 0) == over
    assert hydra.BUILD.of(state) == BuildState(int(over), hydra.BUILD.of(state).buildstatus)
    assert (hydra.BUILD.of(state).buildstatus is not None) == over
    assert (containr.BUILD.of(state) not in {"pending", "running"}) == over
    assert (containr.progress(state, steps_done=1, steps_total=1) == 100) == over


@pytest.mark.parametrize("state", STATES, ids=name_of)
def test_no_api_shows_red_work_as_green(state: State) -> None:
    green = state.result in {Result.SUCCESS, Result.WARNINGS}

    assert (build_server.BUILD.of(state) == "SUCCESS") == green
    assert (sourcehut.JOB.of(state) == "success") == green
    assert (buildbot.REQUEST.of(state).results in {0, 1}) == green
    assert (hydra.BUILD.of(state).buildstatus == 0) == green
    assert (containr.BUILD.of(state) == "success") == green


@dataclass(frozen=True)
class Row:
    """One row of the agreed table; `step` of Build Server is `server_step`, None where the table lists nothing."""

    server: str
    job: str
    task: str
    request: tuple[bool, bool, int]
    build: tuple[bool, int | None] | None
    hydra: tuple[int, int | None]
    hydra_step: tuple[int, int | None] | None
    containr: str
    percent: int
    step: tuple[bool, int | None] | None = None
    server_step: str | None = None
    started: bool = True


def waits() -> State:
    return State(phase=Phase.WAITING)


def ends(result: Result, cause: Cause = Cause.NONE) -> State:
    return State(phase=Phase.FINISHED, result=result, cause=cause)


T, F = True, False
FAILED = ("FAILED", "failed", "failed", (T, T, 2), (T, 2))
ROWS: list[tuple[str, State, Row]] = [
    ("waiting", waits(), Row("PENDING", "pending", "pending", (F, F, -1), None, (0, None), None, "pending", 0)),
    (
        "queued",
        State(phase=Phase.QUEUED),
        Row("PENDING", "queued", "pending", (F, F, -1), None, (0, None), None, "pending", 0),
    ),
    (
        "leased",
        State(phase=Phase.LEASED),
        Row("RUNNING", "running", "pending", (T, F, -1), (F, None), (0, None), (2, None), "running", 5),
    ),
    (
        "running",
        State(phase=Phase.RUNNING),
        Row("RUNNING", "running", "running", (T, F, -1), (F, None), (0, None), (1, None), "running", 10),
    ),
    (
        "success",
        ends(Result.SUCCESS),
        Row("SUCCESS", "success", "success", (T, T, 0), (T, 0), (1, 0), (0, 0), "success", 100),
    ),
    (
        "warnings",
        ends(Result.WARNINGS),
        Row("SUCCESS", "success", "success", (T, T, 1), (T, 1), (1, 0), (0, 0), "success", 100),
    ),
    ("failure", ends(Result.FAILURE), Row(*FAILED, (1, 1), (0, 1), "failed", 100)),
    ("with output", ends(Result.FAILURE, Cause.WITH_OUTPUT), Row(*FAILED, (1, 6), (0, 0), "failed", 100)),
    (
        "cached",
        ends(Result.FAILURE, Cause.CACHED),
        Row("FAILED", "failed", "failed", (T, T, 2), None, (1, 1), (0, 8), "failed", 100),
    ),
    ("nondeterministic", ends(Result.FAILURE, Cause.NONDETERMINISTIC), Row(*FAILED, (1, 12), (0, 12), "failed", 100)),
    (
        "dependency failed",
        ends(Result.DEPENDENCY_FAILED),
        Row("FAILED", "failed", "pending", (T, T, 2), None, (1, 2), None, "failed", 100),
    ),
    (
        "skipped",
        ends(Result.SKIPPED),
        Row(
            "FAILED",
            "cancelled",
            "skipped",
            (T, T, 3),
            None,
            (1, 4),
            None,
            "cancelled",
            100,
            step=(T, 3),
            server_step="SUCCESS",
        ),
    ),
    (
        "cancelled, started",
        ends(Result.CANCELLED),
        Row("FAILED", "cancelled", "failed", (T, T, 6), (T, 6), (1, 4), (0, 4), "cancelled", 100),
    ),
    (
        "cancelled, never started",
        ends(Result.CANCELLED),
        Row("FAILED", "cancelled", "pending", (T, T, 6), None, (1, 4), (0, 4), "cancelled", 100, started=False),
    ),
    *(
        (
            f"timeout {cause}",
            ends(Result.TIMEOUT, cause),
            Row("FAILED", "timeout", "failed", (T, T, 2), (T, 2), (1, 7), (0, 7), "failed", 100),
        )
        for cause in (Cause.WALL, Cause.SILENT)
    ),
    ("log limit", ends(Result.LOG_LIMIT), Row(*FAILED, (1, 10), (0, 10), "failed", 100)),
    ("output limit", ends(Result.OUTPUT_LIMIT), Row(*FAILED, (1, 11), (0, 11), "failed", 100)),
    ("error", ends(Result.ERROR), Row("FAILED", "failed", "failed", (T, T, 4), (T, 4), (1, 3), (0, 3), "failed", 100)),
    (
        "unsupported",
        ends(Result.ERROR, Cause.UNSUPPORTED),
        Row("FAILED", "failed", "failed", (T, T, 4), None, (1, 9), (0, 9), "failed", 100),
    ),
    (
        "attempt lost",
        State(phase=Phase.FINISHED, lost=True),
        Row("PENDING", "queued", "pending", (F, F, -1), (T, 5), (0, None), (0, 3), "pending", 0),
    ),
]


@pytest.mark.parametrize(("state", "row"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_row_of_the_agreed_table_holds(state: State, row: Row) -> None:
    step = row.step or row.build

    assert build_server.BUILD.of(state) == row.server
    assert build_server.STEP.of(state) == (row.server_step or row.server)
    assert sourcehut.JOB.of(state) == row.job
    assert sourcehut.task(state, started=row.started) == row.task
    assert buildbot.REQUEST.of(state) == Request(*row.request)
    assert buildbot.build(state, started=row.started) == (row.build and Run(*row.build))
    assert buildbot.step(state, started=row.started) == (step and Run(*step))
    assert hydra.BUILD.of(state) == BuildState(*row.hydra)
    assert hydra.STEP.of(state) == (row.hydra_step and StepState(*row.hydra_step))
    assert containr.BUILD.of(state) == row.containr
    assert containr.progress(state, steps_done=0, steps_total=4) == row.percent


@pytest.mark.parametrize(
    ("results", "expected"), [((), 0), ((3,), 0), ((3, 0), 0), ((3, 0, 2), 2), ((0, 1), 1), ((6, 4, 2), 6)]
)
def test_a_buildset_is_as_bad_as_its_worst_request_and_skipped_counts_as_success(
    results: tuple[int, ...], expected: int
) -> None:
    ours = {
        0: Result.SUCCESS,
        1: Result.WARNINGS,
        2: Result.FAILURE,
        3: Result.SKIPPED,
        4: Result.ERROR,
        6: Result.CANCELLED,
    }

    assert buildbot.buildset_results([ours[code] for code in results], complete=True) == expected
    assert buildbot.buildset_results([ours[code] for code in results], complete=False) == -1


def test_a_timeout_says_so_in_the_state_string_of_buildbot() -> None:
    assert buildbot.ENDING.of(ends(Result.TIMEOUT, Cause.WALL)).endswith(" (timed out)")
    assert all("timed out" not in buildbot.ENDING.of(state) for state in STATES if state.result is not Result.TIMEOUT)


def test_progress_grows_with_the_steps_and_stays_below_100_while_the_build_runs() -> None:
    running = State(phase=Phase.RUNNING)
    seen = [containr.progress(running, steps_done=done, steps_total=7) for done in range(8)]

    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (10, 99)


@pytest.mark.parametrize("missing", ["phases", "results"])
def test_a_table_that_forgets_a_state_cannot_be_made(missing: str) -> None:
    whole: dict[str, dict[Phase, str] | dict[Result, str]] = {
        "phases": dict(build_server.BUILD.phases),
        "results": dict(build_server.BUILD.results),
    }
    whole[missing].popitem()
    make: Callable[..., StateTable[str]] = StateTable

    with pytest.raises(ValueError, match="no word"):
        make(lost="", **whole)
