"""Predictors without memory, counted from sequences of a task: what can be answered from the last few tokens alone.

A task whose answers such a table finds can be had without memory, whatever it was meant to measure.
"""

from collections.abc import Mapping

import numpy as np

from assay.data.batches import Ints
from assay.data.scoring import ScoringWindows
from assay.data.task import TaskDataset
from assay.seeding import derive
from assay.targets import IGNORED

WINDOWS: Mapping[str, int] = {"unigram": 0, "query": 1, "window": 4}
"""Name of a control -> the last input tokens that it sees; with none it gives the most frequent answer."""
COUNTED_TARGETS = 32_768
COUNTED_INPUTS = 2_000_000
"""At most about so many tokens are counted, however few of them are asked about."""
COUNTED_ROWS = 64


def control_accuracies(dataset: TaskDataset, windows: ScoringWindows) -> dict[str, float]:
    """Name of a control -> the share of the targets of `windows` that it answers right.

    Each is the most frequent answer after the same tokens in sequences that no run is trained or scored on, drawn as
    those of the test are; where they were never seen, after fewer of them.
    """
    context = windows.inputs.shape[1]
    targets = max(1, min(COUNTED_TARGETS, COUNTED_INPUTS // context))
    counted = dataset.as_tested().trained_on(context, COUNTED_ROWS, derive(0, "controls"), targets)
    answers = windows.targets[windows.targets != IGNORED]
    guess = np.full(len(answers), -1, dtype=np.int64)
    accuracies = {}
    for name, seen in WINDOWS.items():
        for tokens in range(seen + 1):
            here = _guesses(counted, windows, tokens)
            guess = np.where(here >= 0, here, guess)
        accuracies[name] = float((guess == answers).mean())
    return accuracies


def _guesses(counted: ScoringWindows, windows: ScoringWindows, tokens: int) -> Ints:
    """[targets] the most frequent answer after the last `tokens` inputs; -1 where these were not counted."""
    known, asked = _contexts(counted, tokens), _contexts(windows, tokens)
    _, number = np.unique(np.concatenate([known, asked]), axis=0, return_inverse=True)
    number = number.reshape(-1)
    answers = counted.targets[counted.targets != IGNORED]
    pairs, times = np.unique(np.stack([number[: len(known)], answers], axis=1), axis=0, return_counts=True)
    order = np.lexsort((pairs[:, 1], times, pairs[:, 0]))
    best = np.full(int(number.max()) + 1, -1, dtype=np.int64)
    best[pairs[order, 0]] = pairs[order, 1]  # the last of a context is the most frequent
    return best[number[len(known) :]]


def _contexts(windows: ScoringWindows, tokens: int) -> Ints:
    """[targets, max(tokens, 1)] the last inputs up to each target's own position, -1 before the sequence begins."""
    rows, places = np.nonzero(windows.targets != IGNORED)
    if tokens == 0:
        return np.zeros((len(rows), 1), dtype=np.int64)
    back = places[:, None] - np.arange(tokens)
    return np.where(back >= 0, windows.inputs[rows[:, None], np.maximum(back, 0)], -1)
