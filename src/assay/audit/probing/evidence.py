"""The largest change of a logit among many comparisons, and the finding made of it.

Shapes: N comparisons, T tokens, V vocabulary.
"""

from dataclasses import dataclass

from torch import Tensor

from assay.audit.probing.yardstick import Yardstick
from assay.audit.subject.differences import change
from assay.records import Finding

BLIND = 1e-3
"""Where rounding alone may move logits by more than this, relatively, a check says little, and the finding says so."""


@dataclass(frozen=True)
class Change:
    """How far the logits at one position of one comparison moved, and how far rounding may move them.

    `excess` is moved / allowed; above 1 it is a failure.
    """

    comparison: int
    position: int
    moved: float
    allowed: float
    excess: float


def largest_change(before: Tensor, after: Tensor, yardstick: Yardstick, first: int = 0) -> Change:
    """The change with the largest excess between logits [N, T, V]; the first of the T positions is number `first`."""
    moved = change(before, after).amax(-1)
    allowed = yardstick.allowed[first : first + moved.shape[1]].to(moved.device)
    excess = (moved / allowed).masked_fill(moved == 0, 0.0)
    place = int(excess.argmax())
    comparison, position = divmod(place, moved.shape[1])
    return Change(
        comparison,
        first + position,
        moved[comparison, position].item(),
        allowed[position].item(),
        excess[comparison, position].item(),
    )


def finding_of(check: str, found: Change, yardstick: Yardstick, passed: str, failed: str) -> Finding:
    """A pass that says `passed` or a failure that says `failed`; its numbers are relative to the logits' RMS."""
    threshold = yardstick.relative(found.allowed)
    words = passed if found.excess <= 1 else failed
    if threshold > BLIND:
        words += f" (rounding alone moves position {found.position} by up to {threshold / 20:.1g} of the logits)"
    return Finding(
        check=check,
        status="pass" if found.excess <= 1 else "fail",
        measured=yardstick.relative(found.moved),
        threshold=threshold,
        explanation=words,
    )
