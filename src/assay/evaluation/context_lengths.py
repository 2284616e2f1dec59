"""The loss on the same targets with more and more of what stands before them: how much context a model uses.

Shapes: N windows, L tokens of context, S targets at the end of each window.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from assay.analysis.intervals.texts import FEWEST_SOURCES, Drawn, over_drawn
from assay.analysis.statistics import LEVEL
from assay.data.scoring import ScoringWindows
from assay.evaluation.passes import windows_at_once
from assay.evaluation.resumed import window_nats
from assay.evaluation.sampling import Sampled, sampled
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Interval
from assay.targets import IGNORED

SHORTEST, LONGEST_TIMES = 64, 8
"""From so many tokens (an eighth of the training context, where that is under 512) to so many training contexts."""
TARGETS = 16
"""At the end of each window, at most, and never over a quarter of the shortest context."""
TOLERATED_NATS = 0.01
"""A context whose loss is within so much of the best is as good as the best."""
READ_TOKENS = 4_000_000
"""Of held-out text, from which windows are drawn."""
PASS_TOKENS = 8_192


class ContextProtocol(NamedTuple):
    """How much is read: windows, lengths for each doubling of the context, and targets of a window at most."""

    windows: int
    per_doubling: int
    targets: int = TARGETS
    longest_times: int = LONGEST_TIMES
    """The longest length over the training context."""


class ContextCurve(NamedTuple):
    """Summed nats of the same targets at every length."""

    lengths: list[int]
    nats: np.ndarray
    """[lengths, N]."""
    scored: np.ndarray
    """[N] targets."""
    targets: int
    """S: a target sees L - S + 1 to L tokens."""
    drawn: Drawn
    trained: int
    """The training context."""

    @property
    def best(self) -> int:
        """The index of the length at or below the training context with the lowest loss."""
        sums = self.nats.sum(1)
        allowed = [i for i, length in enumerate(self.lengths) if length <= self.trained and math.isfinite(sums[i])]
        return min(allowed, key=lambda index: float(sums[index]), default=0)

    def loss(self, index: int) -> Interval:
        """Nats per token at a length."""
        return over_drawn(self.nats[index], self.scored, self.drawn)

    def above_best(self, index: int, level: float = LEVEL) -> Interval:
        """Nats per token above the best, of the same targets; infinite where a loss is not finite."""
        difference = self.nats[index] - self.nats[self.best]
        if not np.isfinite(difference).all():
            return Interval(mean=math.inf, low=None, high=None)
        return over_drawn(difference, self.scored, self.drawn, level)

    def effective(self) -> tuple[int, int | None, int | None]:
        """The smallest length that is as good as the best; and the smallest that may be, and that surely is.

        The last two are None where no interval can be had.
        """
        above = [self.above_best(index) for index in range(self.best + 1)]
        good = next(n for n, of in zip(self.lengths, above, strict=False) if of.mean <= TOLERATED_NATS)
        if above[self.best].low is None:
            return good, None, None
        low = next(n for n, of in zip(self.lengths, above, strict=False) if (of.low or 0.0) <= TOLERATED_NATS)
        high = next(n for n, of in zip(self.lengths, above, strict=False) if _at_most(of.high, TOLERATED_NATS))
        return good, low, high

    def first_worse(self) -> int | None:
        """The first length beyond the best where the loss is higher than the best, its interval above zero.

        The best is picked among lengths, and several may be worse: every pair of both shares in the chance of error
        (Bonferroni), so that where no length is worse one is named in at most 2.5% of samples.
        """
        picked_among = sum(length <= self.trained for length in self.lengths)
        level = 1 - (1 - LEVEL) / max(1, picked_among * (len(self.lengths) - 1 - self.best))
        for index in range(self.best + 1, len(self.lengths)):
            above = self.above_best(index, level)
            if math.isinf(above.mean) or (above.low is not None and above.low > 0):
                return self.lengths[index]
        return None


def _at_most(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit


def context_lengths(trained: int, per_doubling: int, longest_times: int = LONGEST_TIMES) -> list[int]:
    """The lengths that are looked at, the training context `trained` among them, up to `longest_times` of it."""
    shortest = SHORTEST if trained >= LONGEST_TIMES * SHORTEST else max(1, trained // 8)
    steps = range(-int(math.log2(trained / shortest) * per_doubling), int(math.log2(longest_times) * per_doubling) + 1)
    return sorted({max(shortest, round(trained * 2 ** (step / per_doubling))) for step in steps})


def long_windows(
    recut: Callable[[int, int], ScoringWindows], lengths: Sequence[int], seed: int, most: int
) -> tuple[Sampled, list[int]] | None:
    """Windows of the longest of `lengths` that enough documents reach, and the lengths up to it; None where none is.

    Windows that documents are too short for are not used, so that all lengths are of the same targets.
    """
    for index in range(len(lengths), 0, -1):
        longest = lengths[index - 1]
        windows = recut(longest, READ_TOKENS)
        if (windows.lengths == longest).sum() >= FEWEST_SOURCES:
            return sampled(windows, seed, most), list(lengths[:index])
    return None


@torch.no_grad()
def context_curve(
    model: LanguageModel,
    windows: Sampled,
    lengths: Sequence[int],
    trained: int,
    plan: ExecutionPlan,
    targets: int,
    pass_tokens: int = PASS_TOKENS,
    tell: Callable[[str], None] = lambda _: None,
) -> ContextCurve:
    """Score the last `targets` targets of `windows` with the last L inputs, the state new in each, for every length L.

    The model is in evaluation mode meanwhile. `pass_tokens` decides how much memory it takes and nothing else.
    """
    training = model.training
    model.eval()
    inputs, wanted = windows.inputs, windows.targets[:, -targets:]
    nats = np.zeros((len(lengths), len(inputs)))
    try:
        for index, length in enumerate(lengths):
            tell(f"context: {length} tokens, up to {lengths[-1]}")
            at_once = windows_at_once(model, length, pass_tokens)
            for low in range(0, len(inputs), at_once):
                rows = slice(low, low + at_once)
                ids = torch.from_numpy(inputs[rows, -length:]).to(plan.device)
                with plan.autocast():
                    hidden = model.hidden(ids)[0][:, -targets:]
                labels = torch.from_numpy(np.ascontiguousarray(wanted[rows])).to(plan.device)
                nats[index, rows] = window_nats(model, hidden, labels, plan).numpy()
    finally:
        model.train(training)
    scored = (wanted != IGNORED).sum(1)
    return ContextCurve(list(lengths), nats, scored, targets, windows.drawn, trained)
