"""Which tokens to replace so that chunks of as many lengths as possible begin at one: there a model may read ahead.

A model that works in chunks of c tokens may read ahead at the end of a chunk (position c - 1 reads token c) or at its
beginning (position c reads token c + 1). Replacing token p and those after it shows the ends of chunks of every length
that divides p, and the beginnings of those of every length that divides p - 1.
"""

import heapq
from collections.abc import Iterable
from functools import cache

USUAL = ((64, 32.0), (32, 16.0), (50, 12.0), (16, 8.0), (8, 4.0), (10, 3.0), (4, 2.0), (2, 1.0), (1, 0.5))
"""(divisor, weight) of a chunk's length: the first divisor counts. Multiples of 64 are the likeliest lengths."""
BEGINNING = 0.25
"""The weight of a chunk's beginning, relative to its end."""

Side = tuple[int, int]
"""(chunk length, 0 for its end or 1 for its beginning)."""


def every_end(longest: int) -> tuple[int, ...]:
    """The positions of the second half of a row of `longest` tokens: chunks of every shorter length end at one."""
    return tuple(range(max(0, (longest - 1) // 2), longest - 1))


@cache
def replaced_tokens(longest: int, tokens: int, least: int = 1) -> tuple[int, ...]:
    """The tokens to replace, chosen one after the other, in rows that end with them and have `tokens` tokens together.

    Each time that one is chosen which ends the most likely chunks for its row's length, until all end somewhere. A row
    counts as `least` tokens at least.
    """
    missing = {(length, side): _weight(length, side) for length in range(1, longest) for side in (0, 1)}
    sides = {token: list(_sides(token)) for token in range(1, longest)}

    def size(token: int) -> int:
        return max(least, token + 1)

    def worth(token: int) -> float:
        return sum(missing.get(side, 0.0) for side in sides[token]) / size(token)

    waiting = [(-worth(token), token) for token in sides]
    heapq.heapify(waiting)
    chosen: list[int] = []
    while waiting and waiting[0][0] < 0:
        _, token = heapq.heappop(waiting)
        now = worth(token)  # it may have become less since it was put there
        if waiting and now < -waiting[0][0]:
            heapq.heappush(waiting, (-now, token))
        elif now > 0 and size(token) <= tokens:
            tokens -= size(token)
            chosen.append(token)
            for side in sides[token]:
                missing.pop(side, None)
    return tuple(sorted(chosen))


def lengths_ended(tokens: Iterable[int], longest: int) -> list[int]:
    """The chunk lengths below `longest` of which a chunk ends before one of these tokens."""
    return sorted({length for token in tokens for length, side in _sides(token) if side == 0 and length < longest})


def _sides(token: int) -> Iterable[Side]:
    for side in (0, 1):
        start = token - side
        for length in range(1, start + 1):
            if start % length == 0:
                yield length, side


def _weight(length: int, side: int) -> float:
    weight = next(weight for divisor, weight in USUAL if length % divisor == 0)
    return weight * BEGINNING if side else weight
