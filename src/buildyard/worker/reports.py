"""Collects what a job's report files say, after its steps, whether they went well or not."""

import asyncio
import copy
from pathlib import Path

import msgspec

from buildyard.domain.errors import EngineError
from buildyard.domain.specs import ReportSpec
from buildyard.domain.states import Cause, Result
from buildyard.protocol import MetricValue, ReportedTest, ReportedTests
from buildyard.worker.collecting import collect, read_file, shown
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.report_files import FILE_BYTES, READERS, BadReport, Findings
from buildyard.worker.step_log import StepLog

MOST_FILES = 500


async def read_reports(held: HeldAttempt, folder: Path, log: StepLog) -> Ending | None:
    """Read all reports into what the attempt will tell at its end; how the job ends if a required one is not there.

    What is wrong with a report is a line in the log, and no reason to fail unless it is required.
    """
    findings = Findings()
    faults: list[str] = []
    for spec in held.grant.spec.reports:
        read, wrong = await _read(spec, folder, findings)
        for fault in wrong or ([] if read else [f"no file matches {spec.path}"]):
            log.say(f"reports: {spec.type}: {fault}")
        if spec.required and (wrong or not read):
            faults.append(spec.path)
    held.tests = [_masked_set(held, one) for one in findings.sets]
    held.metrics = [_masked_metric(held, one) for one in findings.metrics.values()]
    if findings.sets or findings.metrics:
        log.say(f"reports: {_summary(findings)}")
    if not faults:
        return None
    detail = f"a required report is missing or cannot be read: {', '.join(faults)}"
    return Ending(result=Result.FAILURE, cause=Cause.OUTPUTS, detail=detail)


async def _read(spec: ReportSpec, folder: Path, findings: Findings) -> tuple[int, list[str]]:
    """Read all files of one pattern; how many were, and what was wrong with the others."""
    try:
        found = await collect(folder, [spec.path])
    except EngineError as exc:
        return 0, [str(exc)]
    read, wrong = 0, list(found.skipped)
    for file in found.files[:MOST_FILES]:
        fault = await _read_one(spec, folder, file.stored_at, file.path, file.size, findings)
        read += fault is None
        wrong += [] if fault is None else [f"{shown(file.path)}: {fault}"]
    if len(found.files) > MOST_FILES:
        wrong.append(f"{len(found.files)} files match, only {MOST_FILES} are read")
    return read, wrong


async def _read_one(
    spec: ReportSpec, folder: Path, stored_at: str, path: str, size: int, findings: Findings
) -> str | None:
    """One file; the words for what is wrong with it. Of a bad one nothing is taken."""
    if size > FILE_BYTES:
        return f"is larger than {FILE_BYTES // 1024**2} MiB"
    try:
        data = b"".join([piece async for piece in read_file(folder, stored_at)])[:FILE_BYTES]
        taken = Findings(list(findings.sets), copy.copy(findings.metrics))
        await asyncio.to_thread(READERS[spec.type], data, shown(path), taken)
    except (BadReport, EngineError, OSError) as exc:
        return str(exc)
    findings.sets, findings.metrics = taken.sets, taken.metrics
    return None


def _masked_set(held: HeldAttempt, found: ReportedTests) -> ReportedTests:
    if held.mask is None:
        return found
    return msgspec.structs.replace(
        found, description=held.masked(found.description), cases=[_masked_case(held, one) for one in found.cases]
    )


def _masked_case(held: HeldAttempt, case: ReportedTest) -> ReportedTest:
    texts = {name: held.masked(getattr(case, name)) for name in ("name", "suite", "path", "message")}
    return msgspec.structs.replace(case, **texts)


def _masked_metric(held: HeldAttempt, metric: MetricValue) -> MetricValue:
    return msgspec.structs.replace(metric, name=held.masked(metric.name), unit=held.masked(metric.unit))


def _summary(findings: Findings) -> str:
    parts = []
    if findings.sets:
        passed, failed, skipped = (sum(getattr(one, name) for one in findings.sets) for name in _COUNTS)
        parts.append(f"{passed} tests passed, {failed} failed, {skipped} skipped")
    covered, total = (findings.metrics.get(name) for name in ("coverage.lines", "coverage.lines_total"))
    if covered and total and total.value:
        parts.append(f"{100 * covered.value / total.value:.1f} % of {total.value:.0f} lines covered")
    if others := [name for name in findings.metrics if not name.startswith("coverage.")]:
        parts.append(f"{len(others)} metrics")
    return "; ".join(parts) or "nothing"


_COUNTS = ("passed", "failed", "skipped")
