"""Nats of several answers behind the same text, each the sum over its tokens, in as few forward passes as will do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from assay.data.batches import Ints
from assay.data.scoring import ScoringWindows
from assay.evaluation.scoring import scored_batches
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.targets import IGNORED

Floats = np.ndarray


@dataclass(frozen=True)
class Asked:
    """One text and the answers that could follow, as ids; neither is empty."""

    text: Ints
    answers: Sequence[Ints]


def answer_nats(model: LanguageModel, asked: Sequence[Asked], plan: ExecutionPlan) -> list[Floats]:
    """For each text [n_answers], the nats of all tokens of each answer behind it; the state starts afresh each time.

    One row of a batch serves all answers whose tokens but the last it holds: where each answer is a single token, that
    is one row a text.
    """
    rows = [_Row(number, tail) for number, one in enumerate(asked) for tail in _tails(one.answers)]
    width = max(len(asked[row.number].text) + len(row.tail) for row in rows)
    inputs = np.zeros((len(rows), width), dtype=np.int64)
    targets = np.full((len(rows), width), IGNORED)
    for at, row in enumerate(rows):
        ids = np.concatenate([asked[row.number].text, np.array(row.tail, dtype=np.int64)])
        inputs[at, : len(ids)] = ids
        targets[at, len(ids) - 1] = 0  # only says how far the row reaches
    nothing = np.zeros(len(rows), dtype=np.int64)
    windows = ScoringWindows(inputs, targets, nothing, nothing, nothing, nothing)
    found = [np.zeros(len(one.answers)) for one in asked]
    for batch in scored_batches(model, windows, plan):
        wanted = [
            (place, rows[at], answer)
            for place, at in enumerate(batch.rows)
            for answer in _served(rows[at], asked[rows[at].number].answers)
        ]
        for place, row, answer in wanted:
            one = asked[row.number]
            begin, ids = len(one.text) - 1, one.answers[answer]
            logits = batch.logits(batch.hidden[place, begin : begin + len(ids)])
            nats = torch.nn.functional.cross_entropy(
                logits.double(), torch.from_numpy(ids).to(logits.device), reduction="sum"
            )
            found[row.number][answer] = float(nats)
    return found


@dataclass(frozen=True)
class _Row:
    """A text and what is read behind it."""

    number: int
    tail: tuple[int, ...]


def _tails(answers: Sequence[Ints]) -> list[tuple[int, ...]]:
    """What must be read behind the text: all tokens but the last of each answer, where none goes on as another does."""
    tails = sorted({tuple(ids[:-1].tolist()) for ids in answers})
    return [
        tail
        for tail, after in zip(tails, [*tails[1:], None], strict=True)
        if after is None or after[: len(tail)] != tail
    ]


def _served(row: _Row, answers: Sequence[Ints]) -> Iterator[int]:
    """The answers whose tokens but the last the row holds."""
    for number, ids in enumerate(answers):
        if row.tail[: len(ids) - 1] == tuple(ids[:-1].tolist()):
            yield number
