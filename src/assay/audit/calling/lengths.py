"""Which numbers of tokens a model takes: as the user says, or found by trying."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MORE = (2, 3, 67)
"""A model that takes these lengths besides its shortest and its longest is taken to take all in between."""
FEW = 6
"""How many parts a list of lengths has in words."""


@dataclass(frozen=True)
class Lengths:
    """The numbers of tokens that a model takes and the audit may use, in ascending order."""

    taken: Sequence[int]

    @property
    def longest(self) -> int:
        """The largest of them."""
        return self.taken[-1]

    @property
    def every(self) -> bool:
        """Whether all lengths from one token on are among them."""
        return self.taken[0] == 1 and self.taken[-1] == len(self.taken)

    def fit(self, length: int) -> int:
        """The largest length up to `length`, or the smallest of all."""
        return self.taken[max(0, bisect_right(self.taken, length) - 1)]

    def reaching(self, length: int) -> int:
        """The smallest length that is at least `length`, or the longest of all."""
        return self.taken[min(bisect_left(self.taken, length), len(self.taken) - 1)]

    def shorter(self, length: int) -> int | None:
        """The largest length below `length`; None where there is none."""
        place = bisect_right(self.taken, length - 1)
        return self.taken[place - 1] if place else None

    def in_words(self) -> str:
        """As in "multiples of 64 up to 320", "96 only" or "16 to 320"."""
        first, last, count = self.taken[0], self.longest, len(self.taken)
        if count == 1:
            return f"{first} only"
        if count > 2 and list(self.taken) == list(range(first, last + 1, first)) and first > 1:
            return f"multiples of {first} up to {last}"
        return spans(self.taken)


def spans(lengths: Iterable[int], most: int = FEW) -> str:
    """Lengths in words, as in "1 to 66, 96, 100 to 320 in steps of 20"; beyond `most` parts only how many are left."""
    left, parts = sorted(set(lengths)), []
    while left:
        step = left[1] - left[0] if len(left) > 1 else 1
        run = next((n for n in range(1, len(left)) if left[n] - left[n - 1] != step), len(left))
        if run < 3:
            run, step = 1, 1
        named = str(left[0]) if run == 1 else f"{left[0]} to {left[run - 1]}"
        parts.append(named + (f" in steps of {step}" if step > 1 else ""))
        left = left[run:]
    if len(parts) <= most:
        return ", ".join(parts)
    return f"{', '.join(parts[: most - 1])} and {len(parts) - most + 1} more up to {max(lengths)}"
