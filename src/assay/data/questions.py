"""What a task knows of its own targets besides the answers: what can be had without memory, how far back, how hard."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.data.batches import Ints
from assay.errors import RequestError
from assay.targets import IGNORED

Floats = NDArray[np.float64]
EVERYTHING = -1
"""As a distance: the answer depends on tokens all the way back to the first."""


@dataclass(frozen=True)
class Questions:
    """What is known of the targets of N sequences of C tokens; entries without a target mean nothing.

    The two floors are chances to give the right answer that need no memory of what belongs where.
    """

    uniform: Floats
    """[N, C], for one who knows only which answers there are."""
    bag: Floats
    """[N, C], for one who also knows which of them occur in the sequence before the target, and how often."""
    distance: Ints
    """[N, C], tokens from the query back to the farthest token that the answer rests on; `EVERYTHING` where to all."""
    difficulty: Mapping[str, Ints] = field(default_factory=dict)
    """Name of an axis -> [N, C], by which results are told apart, as the depth of a needle."""
    context: Ints | None = None
    """[N], how many tokens come before what asks; None where a sequence has no such place."""

    def window(self, tokens: int) -> Floats:
        """[N, C], the chance of one who remembers the last `tokens` tokens, the query among them, and nothing else.

        What the answer rests on is known within the window; beyond it one of the possible answers is guessed.
        """
        from_first = np.broadcast_to(np.arange(self.distance.shape[1]), self.distance.shape)
        back = np.where(self.distance == EVERYTHING, from_first, self.distance)
        return np.where(back < tokens, 1.0, self.uniform)


def refuse_questions(whose: str, questions: Questions, targets: Ints) -> None:
    """Raise a RequestError that names what of `whose` questions does not fit the `targets` [N, C]."""
    asked = targets != IGNORED
    if questions.context is not None and questions.context.shape != targets.shape[:1]:
        raise RequestError(f"{whose}: questions give context {list(questions.context.shape)}; one a sequence would do")
    arrays = {"uniform": questions.uniform, "bag": questions.bag, "distance": questions.distance}
    for name, values in {**arrays, **questions.difficulty}.items():
        if values.shape != targets.shape:
            raise RequestError(f"{whose}: questions give {name} {list(values.shape)}; {list(targets.shape)} would do")
    for name, chances in (("uniform", questions.uniform[asked]), ("bag", questions.bag[asked])):
        if not ((chances > 0) & (chances <= 1)).all():
            raise RequestError(
                f"{whose}: questions give {name} from {chances.min()} to {chances.max()}; 0 to 1 would do"
            )
    if (questions.distance[asked] < EVERYTHING).any():
        raise RequestError(f"{whose}: questions give a distance below {EVERYTHING}; tokens back, from 0 on, would do")


class Floors(NamedTuple):
    """Means over the targets."""

    uniform: float
    bag: float


def floors(questions: Questions, targets: Ints) -> Floors:
    """The mean floors over the `targets` [N, C] that are not IGNORED."""
    asked = targets != IGNORED
    return Floors(float(questions.uniform[asked].mean()), float(questions.bag[asked].mean()))


def last_before(wanted: Ints, among: Ints) -> Ints:
    """[N, C]: the last position before t, in `among` [N, C], that holds wanted[t]; -1 where there is none."""
    rows, width = wanted.shape
    found = np.full((rows, width), -1, dtype=np.int64)
    for t in range(1, width):
        hit = among[:, :t] == wanted[:, t, None]
        found[:, t] = np.where(hit.any(axis=1), t - 1 - hit[:, ::-1].argmax(axis=1), -1)
    return found


def share_of_most_frequent(symbols: Ints) -> Floats:
    """[N, 1], how much of each row of `symbols` [N, n] is the symbol that occurs most often in it."""
    rows, n = symbols.shape
    ids = symbols - symbols.min()
    different = int(ids.max()) + 1
    numbered = ids + different * np.arange(rows)[:, None]
    counts = np.bincount(numbered.ravel(), minlength=rows * different).reshape(rows, different)
    return np.asarray(counts.max(axis=1, keepdims=True) / n)
