"""How an API's words for our states are written down: as a table with one entry for each phase and result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from buildyard.domain.builds import State
from buildyard.domain.states import Cause, Phase, Result

Word = TypeVar("Word")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTable(Generic[Word]):
    """One API's words for every state.

    `refined` holds the results whose cause changes the word; any other cause has the plain word of
    its result. `lost` is the word for work whose attempt was lost.
    """

    phases: Mapping[Phase, Word]
    results: Mapping[Result, Word]
    lost: Word
    refined: Mapping[tuple[Result, Cause], Word] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.phases) != set(Phase) - {Phase.FINISHED} or set(self.results) != set(Result):
            raise ValueError("a state has no word")

    def of(self, state: State) -> Word:
        """The word for `state`."""
        if state.lost:
            return self.lost
        if state.result is None:
            return self.phases[state.phase]
        return self.refined.get((state.result, state.cause), self.results[state.result])
