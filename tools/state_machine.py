"""The page of states: phases, results and causes, as the code has them."""

from pathlib import Path

from buildyard.domain.states import ALLOWED_CAUSES, PASSED, Phase, Result
from buildyard.domain.transitions import NEXT

HEAD = """# States

Generated from `buildyard.domain.states` and `buildyard.domain.transitions`.

Builds, jobs, attempts and steps share one state: a *phase*; once finished a *result*; and where there is
more to say a *cause* and a sentence of *detail*. Nothing else moves them than the functions of
`domain/transitions.py`, and every write of a state is a compare-and-set on the row's version.
"""

TAIL = """An attempt (and its unfinished steps) may also end as *lost*, without a result: its worker was not heard of
in time. Its job is then queued again, or, once it was lost too often, finished as `error` (`lost`).
"""


def _phases() -> list[str]:
    lines = ["## Phases", "", "```mermaid", "stateDiagram-v2", "    [*] --> waiting", "    [*] --> queued"]
    for phase in Phase:
        lines += [f"    {phase.name.lower()} --> {to.name.lower()}" for to in sorted(NEXT[phase])]
    lines += ["    finished --> [*]", "```", "", "| From | To |", "|---|---|"]
    for phase in Phase:
        lines.append(f"| {phase.name.lower()} | {', '.join(to.name.lower() for to in sorted(NEXT[phase])) or '–'} |")
    return lines


def _results() -> list[str]:
    lines = ["## Results and causes", "", "From best to worst; a build's result is the worst of its jobs'.", ""]
    lines += ["| Number | Result | Dependants run | Causes that refine it |", "|---|---|---|---|"]
    for result in Result:
        causes = ", ".join(f"`{cause}`" for cause in sorted(ALLOWED_CAUSES[result])) or "–"
        lines.append(f"| {int(result)} | `{result.word}` | {'yes' if result in PASSED else 'no'} | {causes} |")
    return lines


def page(_root: Path) -> str:
    """The whole page."""
    return "\n".join([HEAD, *_phases(), "", TAIL, *_results(), ""])
