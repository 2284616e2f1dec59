"""The record of a model's gradients by group, and the verdicts on how they flow and how fused paths share them."""

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from assay.evaluation.inside.gradient import ParameterGradient, TokenBatch, agreement, read_gradients
from assay.evaluation.inside.sequences import over_documents
from assay.evaluation.inside.stream import fused_layers
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Interval, Record
from assay.training.config import TrainingConfig

VANISHING = 0.01
EXPLODING = 100.0
"""Limits of the first block's gradient over the last one's."""
BALANCED = (0.3, 3.0)
TOLERATED = (0.1, 10.0)
"""Limits of the ratio of two components' gradients: GroundThink's gate G4, and where it warns."""

FlowVerdict = Literal["HEALTHY", "VANISHING", "EXPLODING"]
BalanceVerdict = Literal["BALANCED", "WARN", "UNBALANCED"]


class GroupGradient(Record):
    """The gradients of a group of parameters."""

    group: str
    """embedding, `block 0 mixer`, `block 0 channel mixer`, `block 0 norms`, norm, head."""
    parameters: int
    norm: Interval
    """Of one batch's gradient, the geometric mean over documents."""
    gradient_to_weight: float | None
    """Norm of the mean gradient over that of the weights; None where these are zero."""
    update_to_weight: float | None
    """What a step of AdamW changes over the weights; None for another optimizer, where the rate is not known, or for
    weights that are zero."""
    signal_to_noise: float | None
    """Squared norm of the true gradient over the summed variance of one batch's; None for one batch or no noise."""
    noise_scale_tokens: float | None
    """Tokens of a batch whose noise is as large as the gradient; None where the gradient is not told from noise."""


class Balance(Record):
    """Two layers that one mixer fuses, in one block."""

    block: int
    first: str
    second: str
    ratio: Interval
    """Norm of the first one's gradient over that of the second's, the geometric mean over documents."""
    verdict: BalanceVerdict


class GradientProfile(Record):
    """The gradients of one model."""

    batches: int
    batch_tokens: int
    """Scored targets of a batch, a mean."""
    groups: list[GroupGradient]
    total: Interval
    """Norm of a whole batch's gradient, the geometric mean over documents."""
    first_to_last: Interval
    """Norm of the first block's gradient over that of the last one's, the geometric mean over documents."""
    noise_scale_tokens: float | None
    """Of all parameters together."""
    finite: bool
    verdict: FlowVerdict
    balances: list[Balance]
    """Empty where no mixer fuses several."""


def measure_gradients(
    model: LanguageModel,
    batches: Sequence[TokenBatch],
    plan: ExecutionPlan,
    training: TrainingConfig | None = None,
    document: Sequence[int] | np.ndarray | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> GradientProfile:
    """All of it over `batches`, each of as many tokens; intervals are over their documents, each its own if not given.

    Gradients of one document's batches agree more than those of two, so that they count once.
    """
    found = read_gradients(model, batches, plan, training, tell)
    of = np.arange(len(batches)) if document is None else np.asarray(document)
    groups: dict[str, list[ParameterGradient]] = {}
    for part in found:
        groups.setdefault(group_of(part.name), []).append(part)
    tokens = float(np.mean([(batch.targets >= 0).sum() for batch in batches]))
    everything = agreement(found)
    finite = bool(np.isfinite(everything.norms).all())
    last = len(model.blocks) - 1
    first_to_last = _ratio([_norms(found, f"blocks.{index}.") for index in (0, last)], of)
    return GradientProfile(
        batches=len(batches),
        batch_tokens=round(tokens),
        groups=[_group(name, parts, tokens, of) for name, parts in groups.items()],
        total=_interval(everything.norms, of),
        first_to_last=first_to_last,
        noise_scale_tokens=_scale(everything.signal, everything.noise, tokens),
        finite=finite,
        verdict=flow_verdict(first_to_last.mean, finite, float(everything.norms.max())),
        balances=list(_balances(model, found, of)),
    )


def flow_verdict(first_to_last: float, finite: bool, total: float) -> FlowVerdict:
    """EXPLODING where one is not finite or the first block's is over 100 times the last's; VANISHING under 0.01."""
    if not finite or first_to_last > EXPLODING:
        return "EXPLODING"
    return "VANISHING" if first_to_last < VANISHING or total == 0 else "HEALTHY"


def balance_verdict(ratio: float) -> BalanceVerdict:
    """BALANCED within 0.3...3, WARN within 0.1...10."""
    if BALANCED[0] <= ratio <= BALANCED[1]:
        return "BALANCED"
    return "WARN" if TOLERATED[0] <= ratio <= TOLERATED[1] else "UNBALANCED"


def group_of(name: str) -> str:
    """The group of the parameter of this name: by the part of the model that it is in."""
    inside = re.fullmatch(r"blocks\.(\d+)\.(\w+?)(_norm)?\..*", name)
    if inside is None:
        return "head" if name == "untied_head" else name.partition(".")[0]
    block, part, norm = inside.groups()
    return f"block {block} norms" if norm else f"block {block} {part.replace('_', ' ')}"


def _group(name: str, parts: Sequence[ParameterGradient], tokens: float, document: np.ndarray) -> GroupGradient:
    of = agreement(parts)
    weight = math.sqrt(sum(part.weight for part in parts))
    steps = [part.step for part in parts if part.step is not None]
    return GroupGradient(
        group=name,
        parameters=sum(part.numbers for part in parts),
        norm=_interval(of.norms, document),
        gradient_to_weight=math.sqrt(sum(part.mean for part in parts)) / weight if weight else None,
        update_to_weight=math.sqrt(sum(steps)) / weight if weight and len(steps) == len(parts) else None,
        signal_to_noise=max(0.0, of.signal) / of.noise if of.noise > 0 else None,
        noise_scale_tokens=_scale(of.signal, of.noise, tokens),
    )


def _scale(signal: float, noise: float, tokens: float) -> float | None:
    """Tokens at which the noise of a batch equals the squared gradient: noise falls as 1 / tokens."""
    return noise / signal * tokens if signal > 0 and noise > 0 else None


def _interval(values: np.ndarray, document: np.ndarray) -> Interval:
    """The geometric mean of `values` [M] and its interval over documents, as norms spread by factors.

    The mean without an interval where some are 0.
    """
    if not ((values > 0).all() and np.isfinite(values).all()):
        return Interval(mean=float(values.mean()), low=None, high=None)
    logs = over_documents(np.log(values), document)
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return Interval(mean=math.exp(logs.mean), low=low, high=high)


def _norms(found: Sequence[ParameterGradient], prefix: str) -> np.ndarray:
    parts = [part.batches for part in found if part.name.startswith(prefix)]
    return np.sqrt(np.sum(parts, axis=0)) if parts else np.zeros(1)


def _ratio(pair: Sequence[np.ndarray], document: np.ndarray) -> Interval:
    """The geometric mean over batches of the first over the second."""
    first, second = pair
    if (first > 0).all() and (second > 0).all():
        return _interval(first / second, document)
    ratio = float(first.mean() / second.mean()) if second.mean() > 0 else 1.0 if first.mean() == 0 else math.inf
    return Interval(mean=ratio, low=None, high=None)


def _balances(model: LanguageModel, found: Sequence[ParameterGradient], document: np.ndarray) -> list[Balance]:
    balances = []
    for index, block in enumerate(model.sequence_blocks()):
        layers = [f"blocks.{index}.mixer.{name}." for name in fused_layers(block.mixer)]
        for first, second in pairwise(layers):
            ratio = _ratio([_norms(found, first), _norms(found, second)], document)
            names = [path.split(".")[-2] for path in (first, second)]
            balances.append(
                Balance(block=index, first=names[0], second=names[1], ratio=ratio, verdict=balance_verdict(ratio.mean))
            )
    return balances
