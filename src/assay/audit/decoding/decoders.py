"""Decoding a sequence in pieces that pass a state on, and which pieces are tried.

Shapes: B batch, T tokens, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

Advance = Callable[[nn.Module, Tensor, Any, int], tuple[Tensor, Any]]
"""(model, ids [B, T], state or None, number of tokens before) -> (logits [B, k, V] of the last k tokens, state)."""
Begin = Callable[[nn.Module, int, int], Any]
"""(model, number of rows, number of tokens to come) -> the state before the first token, or None."""
Longer = Literal["none", "first", "all"]
"""Which pieces may be longer than one token."""
ROOM = 67
"""The least number of tokens that a state is given room for; an unusual one, by which a cache's axis is told."""


class NoStateError(Exception):
    """The model takes a state and returns none."""


@dataclass(frozen=True)
class Decoder:
    """Runs a sequence in pieces, passing the state from each to the next.

    `first` runs the first piece, `later` every other; `longer` says which may be longer than a token: "none", the
    "first" or "all". `begin` makes the state, `reset` makes the model forget the sequence before. The state is
    `explicit`, or kept on the model; then it is one sequence at a time, and where nothing begins a new one, each is
    decoded on a `fresh` copy. It is `guessed` if nothing said that the
    model takes such a state. `rows` is the number of rows decoded at once; `single` tokens are scalars. It `promises`
    to read pieces of many tokens at any place where it has a method for that. `method` reads single tokens.
    """

    convention: str
    first: Advance
    later: Advance
    longer: Longer
    begin: Begin | None = None
    reset: Callable[[nn.Module], None] | None = None
    explicit: bool = True
    guessed: bool = False
    rows: int = 2
    fresh: bool = False
    single: bool = False
    promises: bool = False
    method: str = ""

    def pieces(self, model: nn.Module, ids: Tensor, lengths: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """(start, logits [B, k, V]) for each piece: the number of the first token that has logits, and those."""
        for start, logits, _ in self.states(model, ids, lengths):
            yield start, logits

    def states(self, model: nn.Module, ids: Tensor, lengths: Sequence[int]) -> Iterator[tuple[int, Tensor, Any]]:
        """As `pieces`, with the state after each."""
        if self.reset is not None:
            self.reset(model)
        state = None if self.begin is None else self.begin(model, len(ids), max(ROOM, sum(lengths)))
        start = 0
        for length in lengths:
            advance = self.later if start else self.first
            logits, state = advance(model, ids[:, start : start + length], state, start)
            start += length
            yield start - logits.shape[1], logits, state


BOUNDARIES, FEW_BOUNDARIES = (32, 64, 100, 128, 256), (40, 48, 50, 64)
"""Usual sizes of windows, ring buffers and chunks; decoding is tried across each."""
FEW_STEPS = 2
"""How many single tokens follow a boundary in a large model."""
SINGLES, FEW_SINGLES, ROLLING = 72, 24, 39
"""How many single tokens in a row are decoded, so that a window of up to half as many rolls around.

In a large model half of the few, from place ROLLING on, where the first piece may be longer."""


def splits(decoder: Decoder, length: int, steps: int, few: bool) -> list[list[int]]:
    """Lengths of pieces to try: a first piece of 1, 5 or 16 tokens, then steps, or the rest.

    With `few` none: choosing a reading has tried some.
    """
    if few:
        return []
    if decoder.longer == "none":
        return [[1] * length]
    ways = []
    for start in (1, 5, 16):
        if start < length:
            ways.append([start] + [1] * (length - start if start == 5 else min(steps, length - start)))
            if decoder.longer == "all":
                ways.append([start, length - start])
    return [*ways, [3, 1, length - 5, 1]] if decoder.longer == "all" and length > 6 else ways


def long_splits(decoder: Decoder, length: int, steps: int, few: bool, rings: Sequence[int] = ()) -> list[list[int]]:
    """Lengths of pieces for a long row: single tokens across each boundary and at the end, long pieces in between.

    `rings` are numbers of tokens after which the state may begin anew: single tokens go across the end of the first
    round, and of the second.
    """
    rounds = [n * ring for ring in rings for n in (1, 2) if n * ring + steps <= length]
    if decoder.longer == "none":
        return [[1] * min(length, FEW_SINGLES if few else max([SINGLES, *(end + steps for end in rounds)]))]
    around = [[end - 1] + [1] * (steps + 1) for end in rounds]
    if few:
        return _few_long_splits(decoder, length) + (around if decoder.longer == "first" else [])
    boundaries = [boundary for boundary in BOUNDARIES if boundary + steps < length]
    rolling = [5] + [1] * (min(SINGLES, length) - 5)
    at_end = [length - steps] + [1] * steps
    if decoder.longer == "first":
        return [rolling, *([cut - 1] + [1] * steps for cut in boundaries), *around, at_end]
    return [rolling, _through(length, boundaries, steps), *around, at_end]


def _few_long_splits(decoder: Decoder, length: int) -> list[list[int]]:
    """For a large model: past the places 40, 48 and 50, where rings of 16, 20, 24, 40, 48 and 50 begin anew."""
    if decoder.longer == "all":
        return [_through(length, [cut for cut in FEW_BOUNDARIES if cut + FEW_STEPS < length], FEW_STEPS)]
    singles = min(FEW_SINGLES // 2, length - 1)
    return [
        [min(ROLLING, length - singles)] + [1] * singles,
        [length - FEW_STEPS] + [1] * FEW_STEPS,
    ]


def _through(length: int, boundaries: Sequence[int], steps: int) -> list[int]:
    """Pieces of a whole row: `steps` single tokens across each boundary and at the end, longer pieces in between."""
    pieces: list[int] = []
    for cut in boundaries:
        before = cut - 1 - sum(pieces)
        pieces += ([before] if before > 0 else []) + [1] * steps
    rest = length - sum(pieces) - steps
    return pieces + ([rest] if rest > 0 else []) + [1] * min(steps, length - sum(pieces))
