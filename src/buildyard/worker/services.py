"""The side services of a job, each told to the server as a step after the job's own, with a log of its own."""

from functools import partial

from buildyard.domain.states import Result
from buildyard.ports import ServiceRequest
from buildyard.worker.held import Ending, HeldAttempt
from buildyard.worker.step_log import StepLog


def service_requests(held: HeldAttempt) -> tuple[ServiceRequest, ...]:
    """What a job asks for beside its workspace."""
    grant = held.grant
    rows = {row.number: row for row in grant.steps}
    found = []
    for number, spec in enumerate(grant.spec.services, len(grant.spec.steps) + 1):
        log = StepLog(held, rows[number])
        found.append(
            ServiceRequest(
                name=spec.name,
                image=grant.service_images.get(spec.name) or spec.image,
                output=log.write,
                begun=log.start,
                ended=partial(_end, log),
                command=spec.command,
                environment=spec.environment,
                ready=spec.ready,
                ready_s=spec.ready_s,
            )
        )
    return tuple(found)


def _end(log: StepLog, status: int | None) -> None:
    """A service that ended before the job did is worth a word; one that failed shows so."""
    if status is None:
        log.finish(Ending(result=Result.SUCCESS))
        return
    detail = f"the service ended with status {status} before the job did"
    log.say(detail)
    log.finish(Ending(result=Result.FAILURE if status else Result.SUCCESS, detail=detail))
