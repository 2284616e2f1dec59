"""Which sizes a budget pays for, where every further timing is slower than the one before."""

from collections.abc import Sequence
from typing import Any

import pytest

from assay.errors import RequestError
from assay.gating.asked import Budget
from assay.gating.layout import Cost
from assay.gating.sizes import choose_sizes
from assay.records.gate import MemoryKind
from gating.test_layout import shape

REQUEST: Any = None
"""What the budget says is all that is read of it here."""


class Slower:
    """A stopwatch on a machine that others begin to use: what is timed costs more each time, at all sizes."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.timed: dict[int, float] = {}
        self.seconds_a_run = 1.0

    def measure(self, sizes: Sequence[int], arms: Sequence[str]) -> None:
        for size in sizes:
            if size not in self.timed:
                self.timed[size] = 1.0
                if len(self.timed) < self.turns:
                    self.seconds_a_run *= 1.3

    def measure_memory(self, kinds: Sequence[MemoryKind], size: int, arms: Sequence[str]) -> None:
        pass

    def cost(self, arm: str, size: int, tokens: int, task: MemoryKind | None = None) -> Cost:
        return Cost(self.seconds_a_run * size / 10_000, 0.0)


def chosen(seconds: float, turns: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], Slower]:
    monkeypatch.setattr("assay.gating.sizes.least_size", lambda *of: max([8_000, *of[2:]]))
    times: Any = Slower(turns)
    request: Any = type("Request", (), {"budget": Budget(seconds, None, f"{seconds:g}s")})
    return choose_sizes(request, shape(), times, REQUEST), times


@pytest.mark.parametrize("turns", [0, 6, 12])
def test_smaller_sizes_are_taken_as_long_as_there_are_any(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, times = chosen(2_000.0, turns, monkeypatch)
    assert set(sizes) <= times.timed.keys(), "the plan has a timing of each"
    assert sizes[0] * 2 == sizes[1]


def test_what_even_the_least_does_not_fit_is_refused_with_the_least_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="--budget 100s: too small for the sizes 8k, 16k"):
        chosen(100.0, 0, monkeypatch)
