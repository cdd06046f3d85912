"""What the rows of one run share."""

from dataclasses import dataclass
from pathlib import Path

from bench.peers import BuildbotFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """`scratch` is removed at the end; `kept` holds what is dear to make and used again by the next run."""

    quick: bool
    scratch: Path
    kept: Path
    buildbot: BuildbotFacts
