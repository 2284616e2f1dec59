"""The record of what a model carries from token to token on some sequences, from the numbers of its states."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from assay.analysis.intervals.jackknife import jackknife_interval
from assay.evaluation.inside.attention import Looking, read_attention
from assay.evaluation.inside.decay import half_lives, quantile
from assay.evaluation.inside.memory import Gate, PartNumbers, points_of, read_distances, read_memory
from assay.evaluation.inside.sequences import Sequences, over_documents
from assay.evaluation.inside.spectrum import random_rank
from assay.evaluation.inside.states import Key
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Interval, Record

QUANTILES = (0.1, 0.5, 0.9)


class HalfLife(Record):
    """Tokens until half of something is left, over channels and sequences; None where that is longer than the text."""

    low: float | None
    """The channel at a tenth of all."""
    median: float | None
    high: float | None
    longer: float
    """Share of the channels with a half-life longer than what was looked at."""


class StatePart(Record):
    """One recurrent tensor of a block's state, a mean over sequences where nothing else is said."""

    block: int
    layer: Literal["mixer", "channel_mixer"]
    part: str
    """Which of the layer's tensors, as in `wkv`."""
    shape: list[int]
    """Of one sequence."""
    rms: list[float]
    """At `StateProfile.positions`."""
    norm: list[float]
    """The same times the square root of the number of elements."""
    cosine: list[float]
    """Between successive positions."""
    next_cosine: float | None
    """Between the last two tokens; None where there is but one."""
    saturation: float
    """Share of the elements beyond 5 at the end."""
    variance: float
    """Of the elements at the end."""
    finite: bool
    effective_rank: float | None
    """At the end, a mean over heads; None for vectors, and where the state is zero."""
    random_rank: float | None
    """That of random numbers of the same shape."""
    half_life: HalfLife | None
    """Of a change; None where the text ends before one can be seen."""
    left: list[float]
    """What is left of a change after `StateProfile.lags` tokens, the median over channels and sequences."""
    left_low: list[float]
    left_high: list[float]
    """The tenth and nine tenths of them."""
    variety: float | None
    """Distance of states of different documents over that of two parts of one document."""


class GateDecay(Record):
    """The half-lives that the decays of one gate say: their product, token after token, in place of a change."""

    block: int
    gate: str
    half_life: HalfLife


class AttentionPart(Record):
    """One attention: what it keeps, and where it looks, means over heads, queries and sequences."""

    block: int
    layer: str
    entropy_nats: float
    equal_entropy_nats: float
    """That of equal weights over all keys in sight."""
    distance: float
    """Tokens back, weighted."""
    equal_distance: float


class StateProfile(Record):
    """The states of one model on some sequences."""

    sequences: int
    tokens: int
    positions: list[int]
    changed_after: int
    lags: list[int]
    bytes: list[int]
    """Of all states and caches of each block after the whole text."""
    parts: list[StatePart]
    gates: list[GateDecay]
    attention: list[AttentionPart]
    half_life: HalfLife | None
    """Over the channels of all blocks alike."""
    half_life_interval: Interval | None
    """Of the median, over documents; None where it reaches beyond what was looked at."""
    fullness: Interval | None
    """Effective rank over that of random numbers, a mean over the parts that are matrices."""
    variety: Interval | None
    """Over all parts; the jackknife's interval over documents."""
    norm_growth: float | None
    """RMS at the end over that in the middle of the text, a median over parts: 1 where the state has settled."""


def measure_states(
    model: LanguageModel, sequences: Sequences, plan: ExecutionPlan, tell: Callable[[str], None] = lambda _: None
) -> StateProfile:
    """All of it on `sequences` [N, T]."""
    tokens = sequences.inputs.shape[1]
    points = points_of(tokens)
    numbers, gates = read_memory(model, sequences, plan, tell)
    distances = read_distances(model, sequences, plan) if numbers else {}
    attention = read_attention(model, sequences, plan)
    lives = {key: half_lives(points.lags, of.left) for key, of in numbers.items() if points.lags}
    pooled = np.concatenate([of.ravel() for of in lives.values()]) if lives else np.zeros(0)
    growth = [_over_middle(of.rms.mean(1)) for of in numbers.values()]
    return StateProfile(
        sequences=len(sequences.inputs),
        tokens=tokens,
        positions=list(points.even),
        changed_after=points.begin,
        lags=list(points.lags),
        bytes=[
            sum(layer.state_bytes(tokens, plan.bytes_per_element) for layer in block.layers())
            for block in model.sequence_blocks()
        ],
        parts=[_part(key, of, lives.get(key), distances.get(key), sequences.document) for key, of in numbers.items()],
        gates=[_gate(gate, points.lags) for gate in gates],
        attention=[_attention(place, of) for place, of in attention.items()],
        half_life=_half_life(pooled) if pooled.size else None,
        half_life_interval=_median_interval(lives, sequences.document),
        fullness=_fullness(numbers, sequences.document),
        variety=_variety(distances, sequences.document),
        norm_growth=float(np.median(growth)) if growth and len(points.even) > 1 else None,
    )


def _part(
    key: Key, of: PartNumbers, lives: np.ndarray | None, apart: np.ndarray | None, document: np.ndarray
) -> StatePart:
    mean_rms = of.rms.mean(1)
    matrix = len(of.shape) > 1
    rank = float(np.nanmean(of.rank)) if np.isfinite(of.rank).any() else None
    low, median, high = (
        np.quantile(of.left.reshape(len(of.left), -1), share, axis=1).tolist() if of.left.size else []
        for share in QUANTILES
    )
    return StatePart(
        block=key.block,
        layer=key.layer,
        part=key.name,
        shape=list(of.shape),
        rms=mean_rms.tolist(),
        norm=(mean_rms * np.sqrt(np.prod(of.shape))).tolist(),
        cosine=of.cosine.mean(1).tolist(),
        next_cosine=None if np.isnan(of.next_cosine).any() else float(of.next_cosine.mean()),
        saturation=float(of.large.mean()),
        variance=float(of.variance.mean()),
        finite=bool(of.finite.all()),
        effective_rank=rank if matrix else None,
        random_rank=random_rank(*of.shape[-2:]) if matrix else None,
        half_life=None if lives is None else _half_life(lives),
        left=median,
        left_low=low,
        left_high=high,
        variety=None if apart is None else _ratio(apart, document),
    )


def _half_life(values: np.ndarray) -> HalfLife:
    low, median, high = (quantile(values.ravel(), share) for share in QUANTILES)
    return HalfLife(low=low, median=median, high=high, longer=float(np.isinf(values).mean()))


def _gate(gate: Gate, lags: Sequence[int]) -> GateDecay:
    return GateDecay(block=gate.block, gate=gate.name, half_life=_half_life(half_lives(lags, gate.left)))


def _attention(place: tuple[int, str], of: Looking) -> AttentionPart:
    return AttentionPart(
        block=place[0],
        layer=place[1],
        entropy_nats=float(of.entropy_nats.mean()),
        equal_entropy_nats=of.equal_entropy_nats,
        distance=float(of.distance.mean()),
        equal_distance=of.equal_distance,
    )


def _over_middle(rms: np.ndarray) -> float:
    middle = rms[max(0, len(rms) // 2 - 1)]
    return float(rms[-1] / middle) if middle > 0 else 1.0


def _ratio(apart: np.ndarray, document: np.ndarray) -> float | None:
    """Mean distance of states of different documents over that of halves of one text; None for a single document."""
    others = document[:, None] != document
    same = float(np.diag(apart).mean())
    return float(apart[others].mean()) / same if others.any() and same > 0 else None


def _median_interval(lives: Mapping[Key, np.ndarray], document: np.ndarray) -> Interval | None:
    """Of the median half-life over all channels and sequences (Woodruff 1952).

    Student's interval over documents of the share of a document's channels that live no longer than the median says
    between which quantiles the median of other text may lie: those are the ends.
    """
    if not lives:
        return None
    values = np.concatenate(list(lives.values()), axis=1)
    share = over_documents((values <= np.quantile(values, 0.5, method="inverted_cdf")).mean(1), document)
    half = 0.0 if share.low is None else share.mean - share.low
    low, median, high = (quantile(values.ravel(), min(1.0, max(0.0, at))) for at in (0.5 - half, 0.5, 0.5 + half))
    if low is None or median is None or high is None:
        return None
    known = share.low is not None
    return Interval(mean=median, low=low if known else None, high=high if known else None)


def _fullness(numbers: Mapping[Key, PartNumbers], document: np.ndarray) -> Interval | None:
    shares = [of.rank / random_rank(*of.shape[-2:]) for of in numbers.values() if len(of.shape) > 1]
    shares = [share for share in shares if np.isfinite(share).all()]
    return over_documents(np.mean(shares, axis=0), document) if shares else None


def _variety(distances: Mapping[Key, np.ndarray], document: np.ndarray) -> Interval | None:
    """The ratio of all parts together; the jackknife of its logarithm over documents."""
    if not distances:
        return None
    apart = np.mean(list(distances.values()), axis=0)
    ratio = _ratio(apart, document)
    if ratio is None:
        return None
    without = _ratio_without_each(apart, document)
    if len(without) < 3 or not (np.isfinite(without) & (without > 0)).all() or ratio <= 0:
        return Interval(mean=ratio, low=None, high=None)
    low, high = jackknife_interval(math.log(ratio), np.log(without).tolist())
    return Interval(mean=ratio, low=math.exp(low), high=math.exp(high))


def _ratio_without_each(apart: np.ndarray, document: np.ndarray) -> np.ndarray:
    """[documents] what `_ratio` is with each document left out; not finite where it is none."""
    _, number = np.unique(document, return_inverse=True)
    of = np.eye(int(number.max()) + 1)[number]
    sums, pairs, same = of.T @ apart @ of, np.outer(of.sum(0), of.sum(0)), of.T @ np.diag(apart)
    with np.errstate(divide="ignore", invalid="ignore"):
        others = _off_without_each(sums) / _off_without_each(pairs)
        ratios: np.ndarray = others / ((same.sum() - same) / (len(of) - of.sum(0)))
    return ratios


def _off_without_each(table: np.ndarray) -> np.ndarray:
    """[n] the sum of what is off the diagonal of `table` [n, n] with each row and its column left out."""
    off = table - np.diag(np.diag(table))
    left: np.ndarray = off.sum() - off.sum(0) - off.sum(1)
    return left
