"""From intervals to PASS, FAIL and OPEN, and from those to GO, NO-GO and UNDECIDED, within one error budget.

    Criterion(name, low, high, threshold, better="higher", primary=False)     low, high: None where there is no bound
    .state -> PASS | FAIL | OPEN
    level_of_each(level, secondary) -> float     the level at which each of so many secondary intervals is formed
    decide(criteria) -> Decision(verdict, open, failed)

The primary criterion is judged with an interval at the level of the rule, the secondary ones with intervals that hold
together at that level (Bonferroni). GO needs every criterion, so that a false GO needs the primary interval to be
wrong: 2.5% at most at 95%. NO-GO needs one that fails: 2.5% of the primary's and, where there are secondary ones, 2.5%
of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

State = Literal["PASS", "FAIL", "OPEN"]
Verdict = Literal["GO", "NO-GO", "UNDECIDED"]


@dataclass(frozen=True)
class Criterion:
    """One number of the candidate against what the rule asks of it."""

    name: str
    low: float | None
    high: float | None
    threshold: float
    better: Literal["higher", "lower"] = "higher"
    primary: bool = False

    @property
    def state(self) -> State:
        """PASS where the whole interval lies beyond the threshold on the better side, FAIL where on the other."""
        above = self.low is not None and self.low > self.threshold
        below = self.high is not None and self.high < self.threshold
        if not (above or below):
            return "OPEN"
        return "PASS" if above == (self.better == "higher") else "FAIL"


class Decision(NamedTuple):
    """What a gate says."""

    verdict: Verdict
    open: tuple[str, ...]
    """Criteria that more seeds might close."""
    failed: tuple[str, ...]


def level_of_each(level: float, secondary: int) -> float:
    """With which each of `secondary` intervals is formed so that all hold together with `level`."""
    return 1 - (1 - level) / max(secondary, 1)


def decide(criteria: Sequence[Criterion]) -> Decision:
    """NO-GO where one fails, GO where all pass, else UNDECIDED; raises ValueError unless exactly one is primary."""
    if sum(criterion.primary for criterion in criteria) != 1:
        raise ValueError("exactly one criterion is primary")
    failed = tuple(criterion.name for criterion in criteria if criterion.state == "FAIL")
    undecided = tuple(criterion.name for criterion in criteria if criterion.state == "OPEN")
    if failed:
        return Decision("NO-GO", undecided, failed)
    return Decision("UNDECIDED" if undecided else "GO", undecided, failed)
