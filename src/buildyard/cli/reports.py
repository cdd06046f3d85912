"""`buildyard show --tests` and `metrics`: how a build's tests went and what was measured."""

from buildyard.cli.connection import connected
from buildyard.cli.output import console, print_json, print_table
from buildyard.client.messages import Metric, Metrics, TestResults
from buildyard.client.native import NativeClient

MOST_SHOWN = 50
MESSAGE_LINES = 6


async def show_tests(build: str, *, as_json: bool) -> None:
    """The numbers of each report, the tests that failed, coverage and metrics."""
    async with connected() as client:
        found = await client.tests(build, limit=1000 if as_json else MOST_SHOWN)
        metrics = await client.metrics(build)
        if as_json:
            print_json({"tests": await _whole(client, build, found), "metrics": metrics.metrics})
            return
    _print(found, metrics)


async def _whole(client: NativeClient, build: str, found: TestResults) -> TestResults:
    """All pages as one."""
    tests = list(found.tests)
    while found.cursor:
        found = await client.tests(build, cursor=found.cursor, limit=1000)
        tests += found.tests
    return TestResults(sets=found.sets, tests=tests)


def _print(found: TestResults, metrics: Metrics) -> None:
    screen = console()
    if found.sets:
        counted = [(one.job, one.description, str(one.passed), str(one.failed), str(one.skipped)) for one in found.sets]
        print_table(("job", "report", "passed", "failed", "skipped"), counted)
    for test in found.tests:
        if test.status not in ("error", "failed"):
            continue
        name = f"{test.suite}.{test.name}" if test.suite else test.name
        screen.print(f"✗ {name} ({test.status}, {test.seconds:.2f} s)", style="bold red", markup=False)
        for line in test.message.splitlines()[:MESSAGE_LINES]:
            screen.print(f"    {line}", markup=False)
    if sum(one.failed for one in found.sets) > MOST_SHOWN:
        screen.print(f"and more; all of them: --json (the first {MOST_SHOWN} are shown)", markup=False)
    others = [one for one in metrics.metrics if not one.name.startswith("coverage.")]
    for job, words in sorted(_coverage(metrics.metrics).items()):
        screen.print(f"coverage of {job}: {words}", markup=False)
    if others:
        rows = [(one.job, one.name, f"{one.value:g}", one.unit) for one in others]
        print_table(("job", "metric", "value", "unit"), rows)
    if not (found.sets or metrics.metrics):
        screen.print("the build has no reports")


def _coverage(metrics: list[Metric]) -> dict[str, str]:
    """In words, by job."""
    values = {(one.job, one.name): one.value for one in metrics}
    words: dict[str, str] = {}
    for kind in ("lines", "branches"):
        for (job, name), total in values.items():
            if name == f"coverage.{kind}_total" and total:
                covered = values.get((job, f"coverage.{kind}"), 0)
                said = f"{100 * covered / total:.1f} % of {total:.0f} {kind}"
                words[job] = f"{words[job]}, {said}" if job in words else said
    return words


async def show_history(name: str, project: str, pipeline: str, *, as_json: bool) -> None:
    """One metric over the newest builds of a pipeline."""
    async with connected() as client:
        found = (await client.metric_history(project, pipeline, name)).metrics
    if as_json:
        print_json(found)
        return
    print_table(
        ("build", "number", "job", "value", "unit"),
        [(str(one.build), str(one.number), one.job, f"{one.value:g}", one.unit) for one in found],
    )
