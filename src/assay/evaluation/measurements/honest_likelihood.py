"""Honest likelihood: the same targets scored a second time, each from its prefix alone, so that no leak can help.

Shapes: N windows, C context, R windows of one position, T tokens of their prefixes, n targets.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from assay.analysis.intervals.texts import over_texts
from assay.analysis.statistics import LEVEL
from assay.data.batches import permutation
from assay.data.scoring import ScoringWindows
from assay.errors import RequestError
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.evaluation.measurements.likelihood import NatsOfTargets
from assay.evaluation.scoring import score_windows
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.ops.cross_entropy import token_nats
from assay.records import Column, Record
from assay.seeding import derive
from assay.targets import IGNORED

ROWS = 8
"""Targets of one position that are drawn together and scored in one forward pass."""


class HonestLikelihood(Record):
    """Two scores of the same sampled targets, in nats per token.

    `difference` is honest - reported: what the model gained from tokens it must not see, and the price of taking them
    away from a model that was trained with them; `low` and `high` are its 95% interval, None with fewer than 20
    clusters.
    """

    reported_nats_per_token: float
    """As the likelihood scores the targets: inside their whole windows."""
    honest_nats_per_token: float
    """From the tokens of the same window up to the target."""
    difference: float
    low: float | None
    high: float | None
    reported_perplexity: float
    honest_perplexity: float
    targets: int
    """How many were sampled."""
    clusters: int
    """What the interval is over: the sources of the targets, or their windows where the source is one."""
    all_targets: int
    """How many the windows hold."""
    all_reported_nats_per_token: float
    """The reported score over all of them, which the sample stands for."""


class MeasureHonestLikelihood(Measurement[HonestLikelihood]):
    """What a model gained from tokens that it must not see."""

    name = "honest_likelihood"
    version = 2
    question = "How well does the model predict each token from what stands before it alone?"
    unit = "nats per token"
    group = "likelihood"
    needs = frozenset({"trained"})
    record = HonestLikelihood

    def readers(self, given: Given) -> Sequence[Reader]:
        return [NatsOfTargets(given.held_out)]

    def measure(self, given: Given, readers: Sequence[NatsOfTargets]) -> HonestLikelihood:
        return honest_beside(readers[0].nats, given.trained, given.held_out, given.plan)

    def columns(self, values: HonestLikelihood) -> list[Column]:
        gained = values.difference
        low, high = values.low, values.high
        return [
            Column(key="honest", head="honest nats", format="nats", value=values.honest_nats_per_token, better="lower"),
            Column(
                key="gained",
                head="gained nats",
                second="95% interval",
                format="nats",
                value=gained,
                low=low,
                high=high,
                better="lower",
                floor=0.0,
            ),
        ]


class _Block(NamedTuple):
    """Targets of one position that are scored together: `rows` of the windows."""

    position: int
    rows: NDArray[np.int64]


def honest_likelihood(
    model: LanguageModel, windows: ScoringWindows, plan: ExecutionPlan, targets: int = 1024, seed: int = 0
) -> HonestLikelihood:
    """Score a sample of the targets of `windows` as reported and, from the same window start, from its prefix alone.

    About `targets` of them are drawn, all where there are no more, in blocks of up to `ROWS` windows that share a
    position: a forward pass holds prefixes of one length, without padding, which a leaking model could read. Every
    target is as likely to be drawn as any other. The interval is that over sources (docs/statistics.md), over
    windows where all targets are of one source. Fewer than 1 target is a RequestError.
    """
    return honest_beside(score_windows(model, windows, plan), model, windows, plan, targets, seed)


def honest_beside(
    reported_of_all: NDArray[np.float64],
    model: LanguageModel,
    windows: ScoringWindows,
    plan: ExecutionPlan,
    targets: int = 1024,
    seed: int = 0,
) -> HonestLikelihood:
    """The same, where the nats [N, C] of all targets inside their whole windows are known."""
    if targets < 1:
        raise RequestError(f"{targets} targets to score honestly: at least 1 is needed")
    scored = windows.targets != IGNORED
    blocks = _sampled_blocks(scored, targets, seed)
    rows = np.concatenate([block.rows for block in blocks])
    positions = np.concatenate([np.full(len(block.rows), block.position) for block in blocks])
    reported = reported_of_all[rows, positions]
    honest = _score_prefixes(model, windows, blocks, plan)
    clusters, interval = _interval(honest, reported, windows.source[rows], rows)
    return HonestLikelihood(
        reported_nats_per_token=float(reported.mean()),
        honest_nats_per_token=float(honest.mean()),
        difference=float((honest - reported).mean()),
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        reported_perplexity=_perplexity(reported),
        honest_perplexity=_perplexity(honest),
        targets=len(rows),
        clusters=clusters,
        all_targets=int(scored.sum()),
        all_reported_nats_per_token=float(reported_of_all.sum() / scored.sum()),
    )


def _sampled_blocks(scored: NDArray[np.bool_], targets: int, seed: int) -> list[_Block]:
    """Every k-th of all blocks in the order of their positions, from a random start: about `targets` targets.

    The targets of a position are dealt out at random to its blocks. Each block, and so each target, is as likely as any
    other, and the sample has its share of early and late positions.
    """
    blocks: list[_Block] = []
    for position in np.flatnonzero(scored.any(axis=0)).tolist():
        rows = np.flatnonzero(scored[:, position])
        dealt = rows[permutation(len(rows), derive(seed, "honest", position))]
        blocks += [_Block(position, dealt[low : low + ROWS]) for low in range(0, len(rows), ROWS)]
    count = min(len(blocks), max(1, round(targets * len(blocks) / int(scored.sum()))))
    start = np.random.default_rng(derive(seed, "honest")).random()
    return [blocks[int((start + index) * len(blocks) / count)] for index in range(count)]


@torch.no_grad()
def _score_prefixes(
    model: LanguageModel, windows: ScoringWindows, blocks: list[_Block], plan: ExecutionPlan
) -> NDArray[np.float64]:
    """Nats [n] of the targets of `blocks`, in order: the last position of a forward pass over the prefix."""
    training = model.training
    model.eval()
    nats = []
    for position, rows in blocks:
        ids = torch.from_numpy(windows.inputs[rows, : position + 1]).to(plan.device)
        labels = torch.from_numpy(windows.targets[rows, position]).to(plan.device)
        with plan.autocast():
            hidden, _ = model.hidden(ids)
            scores = token_nats(hidden[:, -1], model.head_weight, labels)
        nats.append(scores.double().cpu().numpy())
    model.train(training)
    return np.concatenate(nats)


def _interval(
    honest: NDArray[np.float64], reported: NDArray[np.float64], sources: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[int, tuple[float, float] | None]:
    """The number of clusters and the 95% interval of the mean difference over them, None where they are too few."""
    _, cluster = np.unique(sources, return_inverse=True)
    if cluster.max() == 0:
        _, cluster = np.unique(rows, return_inverse=True)
    found = over_texts(honest - reported, np.ones(len(cluster)), cluster.tolist(), LEVEL)
    return int(cluster.max()) + 1, None if found is None else (found.mean - found.half, found.mean + found.half)


def _perplexity(nats: NDArray[np.float64]) -> float:
    return math.exp(min(float(nats.mean()), 700.0))


register(MeasureHonestLikelihood())
