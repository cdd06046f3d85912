"""The bash script that runs one step on a machine that has never seen Buildyard.

What differs from step to step stands before the script as quoted values; the rest, `runner.sh`, is the same for all.
Secrets, tokens and the address of the source are not in it: the script gets them with its claim.
"""

import base64
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from shlex import quote
from urllib.parse import quote as percent

from buildyard.domain.step_rules import Surroundings, shell_of, variables_of
from buildyard.engine.runner_files import plain_caches
from buildyard.engine.runners import RUNNER, StepPlan

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROTOCOLS = "https:http:ssh:git"
_AT_RUN_TIME = {
    "BUILDYARD_ATTEMPT": '"BUILDYARD_ATTEMPT=$attempt"',
    "BUILDYARD_WORKSPACE": '"BUILDYARD_WORKSPACE=$work"',
}


@cache
def _common() -> str:
    return files("buildyard.apis.build_server").joinpath("runner.sh").read_text(encoding="utf-8")


def runner_script(plan: StepPlan, *, server: str, allow_local: bool) -> str:
    """The whole script; `server` is the address that it calls back."""
    spec, facts = plan.spec, plan.facts
    caches = plain_caches(spec)
    lines = [
        "#!/usr/bin/env bash",
        "# Runs one step of a build: curl -s URL | bash",
        "{",
        "set -u",
        f"server={quote(server)}",
        f"step={quote(plan.job.uid)}",
        f"image={quote(spec.image)}",
        f"commit={quote(facts.commit)}",
        f"branch={quote(facts.branch)}",
        f"protocols={_PROTOCOLS}{':file' if allow_local else ''}",
        f"limit={spec.limits.wall_s}",
        f"scripts=({_words(base64.b64encode(step.run.encode()).decode() for step in spec.steps)})",
        f"caches=({_words(caches)})",
        f"cache_queries=({_words(percent(path, safe='') for path in caches)})",
        "",
        *_variables(plan),
        "",
        "keep_all() {",
        *(f"  keep_matching {quote(pattern)} {glob(pattern)} || return 1" for pattern in spec.outputs),
        "  return 0",
        "}",
        "",
    ]
    return "\n".join(lines) + _common() + "}\n"


def _words(values: Iterable[str]) -> str:
    return " ".join(quote(value) for value in values)


def _variables(plan: StepPlan) -> list[str]:
    """A function that sets the shell and the variables of the n-th command."""
    facts = plan.facts
    where = Surroundings(
        attempt="",
        build=facts.build_uid,
        build_number=facts.build_number,
        executor=RUNNER,
        job=plan.job.uid,
        pipeline=facts.pipeline_name,
        project=facts.project_slug,
        worker=RUNNER,
        workspace="",
    )
    lines = ["set_variables() {", "  case $1 in"]
    for n, step in enumerate(plan.spec.steps):
        lines.append(f"    {n})")
        lines.append(f"      shell=({_words(shell_of(step))})")
        lines.append("      variables=(")
        lines += [
            f"        {_AT_RUN_TIME.get(name) or quote(f'{name}={value}')}"
            for name, value in variables_of(plan.spec, step, where).items()
            if _VARIABLE.fullmatch(name)
        ]
        lines += ["      )", "      ;;"]
    return [*lines, "  esac", "}"]


def glob(pattern: str) -> str:
    """Our pattern as bash's: `*` and `?` bare, `**` only as a whole segment, everything else quoted."""
    return "/".join(_segment(segment) for segment in pattern.split("/"))


def _segment(segment: str) -> str:
    if segment == "**":
        return segment
    return "".join(
        part if part in ("*", "?") else quote(part)
        for part in re.split(r"(\*|\?)", re.sub(r"\*+", "*", segment))
        if part
    )
