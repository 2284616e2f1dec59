"""Bits about the tokens before and after a place that a linear probe reads from what a model holds there.

A distance is that of a token from the place: 0 is the last token read, -4 the token four before it, 1 the next one.

Shapes: N windows, P places, K classes, n samples.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from assay.analysis.intervals.texts import Drawn, crossed, over_drawn
from assay.analysis.statistics import LEVEL
from assay.data.batches import permutation
from assay.evaluation.probes import (
    REFITS,
    Parts,
    Probed,
    constant,
    in_bits,
    probe_nats,
    probed,
    tabled,
    whitened,
)
from assay.evaluation.readings import Held, What, held
from assay.evaluation.sampling import Sampled
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Interval
from assay.seeding import derive
from assay.targets import IGNORED

FEWEST_SAMPLES = 400
"""Places with a token at the distance; with fewer nothing is probed."""
FIT, CHOOSE = 0.55, 0.15
"""Shares of the sources that a probe is fitted on, and its penalty chosen; the rest is for the test."""
GROUPS_PER_DIMENSION = 4
"""A state is added up into so many groups for each dimension that is probed."""
HEAD_ROWS = 256
"""Places whose logits are formed at once."""


class InformationProtocol(NamedTuple):
    """How much is read and probed."""

    windows: int
    tokens: int
    """Of each, at most."""
    places: int
    """In each, at most."""
    classes: int
    dimensions: int
    blocks: int
    """Evenly spread over the depth, the last among them."""
    distances: tuple[int, ...]


class AboutToken(NamedTuple):
    """What is to be known of the token at a distance, and what is known without the model's inside."""

    distance: int
    entropy: float
    """Bits of its class by the frequencies of the classes."""
    token: Interval | None
    """Bits that the last token read says of it alone; None at distance 0, where it is the token."""
    own: Interval | None
    """Bits by the model's own prediction, of the next token."""
    samples: int
    """On which bits are counted."""


class Read(NamedTuple):
    """Bits that a probe reads."""

    what: What
    block: int
    size: int
    """How many numbers what is read has."""
    distance: int
    bits: Interval
    shuffled: float | None
    """The same with classes dealt out at random; of the last block alone."""


class Informed(NamedTuple):
    """Everything about one model."""

    about: list[AboutToken]
    read: list[Read]
    drawn: Drawn


class Labels(NamedTuple):
    """The class of the token at a distance from each place, -1 where there is none."""

    y: Int[np.ndarray, "N P"]
    distance: int


def blocks_probed(depth: int, most: int) -> list[int]:
    """At most `most` blocks of `depth`, evenly spread, the last among them."""
    count = min(most, depth)
    return sorted(depth - 1 - step * depth // count for step in range(count))


def information(
    model: LanguageModel,
    sample: Sampled,
    plan: ExecutionPlan,
    protocol: InformationProtocol,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Informed | str:
    """Probe what `model` holds on the windows of `sample`; or in words why that cannot be done."""
    stride = max(1, sample.inputs.shape[1] // protocol.places)
    blocks = blocks_probed(len(model.sequence_blocks()), protocol.blocks)
    places = np.arange(stride, sample.inputs.shape[1] + 1, stride)
    samples = len(sample.inputs) * len(places)
    if samples < FEWEST_SAMPLES or sample.drawn.size < 3:
        return f"{samples} places of {len(sample.inputs)} windows are too few to fit a probe"
    found = held(
        model, sample.inputs, blocks, stride, plan, seed, GROUPS_PER_DIMENSION * protocol.dimensions, tell=tell
    )
    probing = _Probing(model, sample, found, plan, protocol, seed)
    labels = [of for distance in protocol.distances if (of := probing.labels(distance)) is not None]
    about = [probing.about(of) for of in labels]
    read = [probing.read(what, block, of) for what, block in probing.report(tell) for of in labels]
    return Informed(about, read, sample.drawn)


class _Probing:
    """The places of one sample, their classes, and the three parts that sources fall into."""

    def __init__(
        self,
        model: LanguageModel,
        sample: Sampled,
        found: Held,
        plan: ExecutionPlan,
        protocol: InformationProtocol,
        seed: int,
    ) -> None:
        self.model, self.sample, self.found, self.plan = model, sample, found, plan
        self.protocol, self.seed = protocol, seed
        self.part = _parts(sample.drawn.numbers, seed)
        self.group = _groups(sample.drawn.numbers, self.part)
        self.class_of = _classes(sample.inputs[self.part == 0], model.vocab_size, protocol.classes)
        self.classes = int(self.class_of.max()) + 1
        self.narrow: dict[tuple[What, int], Tensor] = {}

    def report(self, tell: Callable[[str], None]) -> list[tuple[What, int]]:
        """What is probed, made narrow: every (what, block)."""
        everywhere = self._parts_of(np.ones(self.found.hidden.shape[:2], bool))
        for (what, block), x in self.found.of.items():
            tell(f"information: {what} of block {block}")
            flat = whitened(x.flatten(0, 1), self.protocol.dimensions, everywhere)
            self.narrow[what, block] = flat.view(*x.shape[:2], -1)
        return list(self.narrow)

    def labels(self, distance: int) -> Labels | None:
        """The classes at a distance; None where too few places have a token there."""
        inputs, targets, places = self.sample.inputs, self.sample.targets, self.found.places
        at = places - 1 + distance if distance <= 0 else places - 2 + distance
        inside = (at >= 0) & (at < inputs.shape[1])
        tokens = (inputs if distance <= 0 else targets)[:, at.clip(0, inputs.shape[1] - 1)]
        known = inside & (tokens != IGNORED)
        y = np.where(known, self.class_of[np.where(known, tokens, 0)], -1)
        parts = self._parts_of(known)
        if known.sum() < FEWEST_SAMPLES or not all(part.any() for part in parts):
            return None
        return Labels(y, distance)

    def about(self, labels: Labels) -> AboutToken:
        """What is to be known, and the floors."""
        known = labels.y >= 0
        parts, y = self._parts_of(known), torch.from_numpy(labels.y[known])
        group = self._group_of(known)
        floor = constant(y, self.classes, parts, group)
        token = own = None
        if labels.distance != 0:
            last = torch.from_numpy(self.sample.inputs[:, self.found.places - 1][known])
            table = tabled(last, y, self.model.vocab_size, self.classes, parts, group)
            token = self._bits(table.below(floor), known, parts)
        if labels.distance == 1:
            nats = self._own_nats(known, parts, y)
            own = self._bits(Probed(nats, nats.expand(len(floor.refits), -1)).below(floor), known, parts)
        return AboutToken(labels.distance, in_bits(float(floor.nats.mean())), token, own, int(parts.test.sum()))

    def read(self, what: What, block: int, labels: Labels) -> Read:
        """What a probe reads, and what one reads where the classes are shuffled."""
        known = labels.y >= 0
        parts, y = self._parts_of(known), torch.from_numpy(labels.y[known])
        x, group = self.narrow[what, block][torch.from_numpy(known)], self._group_of(known)
        found = probed(x, y, self.classes, parts, group)
        shuffled = None
        if block == max(number for _, number in self.narrow):
            order = permutation(len(y), derive(self.seed, f"shuffled {what}", block, labels.distance % 1_024))
            dealt = y[torch.from_numpy(order)]
            together = np.zeros_like(group)  # nothing is fitted again: its mean alone is asked
            chance = constant(dealt, self.classes, parts, together).nats - probe_nats(x, dealt, self.classes, parts)
            shuffled = in_bits(float(chance.mean()))
        bits = self._bits(found.below(constant(y, self.classes, parts, group)), known, parts)
        size = self.found.sizes[what, block]
        return Read(what, block, size, labels.distance, bits, shuffled)

    def _group_of(self, known: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The group of each place that is known, one after the other."""
        return np.broadcast_to(self.group[:, None], known.shape)[known]

    def _own_nats(self, known: NDArray[np.bool_], parts: Parts, y: Int[Tensor, " n"]) -> Float[Tensor, " m"]:
        """Nats of the next token's class by the model's own logits, those of one class added up."""
        hidden = self.found.hidden[torch.from_numpy(known)][torch.from_numpy(parts.test)]
        wanted, class_of = y[torch.from_numpy(parts.test)], torch.from_numpy(self.class_of)
        nats = []
        for low in range(0, len(hidden), HEAD_ROWS):
            with torch.no_grad(), self.plan.autocast():
                logits = self.model.head(hidden[low : low + HEAD_ROWS].to(self.plan.device))
            log_p = logits.float().cpu().log_softmax(-1)
            of_class = class_of == wanted[low : low + HEAD_ROWS, None]
            nats.append(-log_p.masked_fill(~of_class, -torch.inf).logsumexp(-1))
        return torch.cat(nats)

    def _parts_of(self, known: NDArray[np.bool_]) -> Parts:
        """The parts of the places that are known, one after the other."""
        part = np.broadcast_to(self.part[:, None], known.shape)[known]
        return Parts(part == 0, part == 1, part == 2)

    def _bits(self, gain: Probed, known: NDArray[np.bool_], parts: Parts) -> Interval:
        """Their mean over the test samples, with its interval over what is drawn together.

        It is also over what was fitted, where that was done again, by the jackknife that leaves out a group at a time.
        None where no sample has any: a probe that is not told from the frequencies is these.
        """
        window = np.broadcast_to(np.arange(len(known))[:, None], known.shape)[known][parts.test]
        sums = np.bincount(window, weights=gain.nats.double().numpy(), minlength=len(known))
        counts = np.bincount(window, minlength=len(known))
        nats = over_drawn(sums, counts, self.sample.drawn)
        if not gain.nats.any():  # nothing was read: how much there may be is not known
            return Interval(mean=0.0, low=None, high=None)
        if nats.low is None:
            return Interval(mean=in_bits(nats.mean), low=None, high=None)
        half = in_bits(crossed(nats.mean - nats.low, _half_over_fits(gain)))
        return Interval(mean=in_bits(nats.mean), low=in_bits(nats.mean) - half, high=in_bits(nats.mean) + half)


def _half_over_fits(gain: Probed) -> float:
    """The half-width, in nats, of the interval over what was fitted; 0 where it was not fitted again."""
    groups = len(gain.refits)
    if groups < 2:
        return 0.0
    means = gain.refits.double().mean(1)
    variance = (groups - 1) / groups * float((means - means.mean()).square().sum())
    return float(stdtrit(groups - 1, (1 + LEVEL) / 2)) * float(np.sqrt(variance))


def _groups(numbers: NDArray[np.int64], part: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] the group of each window's source among those that a probe is fitted on; 0 of the others."""
    fitted, cluster = np.unique(numbers[part == 0], return_inverse=True)
    group = np.zeros(len(numbers), np.int64)
    group[part == 0] = cluster % min(REFITS, len(fitted))
    return group


def _parts(numbers: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """[N] 0 where a probe is fitted, 1 where its penalty is chosen, 2 for the test; a source is in one of them."""
    _, cluster = np.unique(numbers, return_inverse=True)
    count = int(cluster.max()) + 1
    fit = max(1, min(count - 2, round(FIT * count)))
    choose = max(1, round(CHOOSE * count))
    of = np.full(count, 2)
    order = permutation(count, derive(seed, "probe parts"))
    of[order[:fit]], of[order[fit : fit + choose]] = 0, 1
    return of[cluster]


def _classes(inputs: Sequence[int] | NDArray[np.int64], vocabulary: int, most: int) -> NDArray[np.int64]:
    """[V] the class of each token: the most frequent ones each their own, all others the last."""
    counts = np.bincount(np.asarray(inputs).ravel(), minlength=vocabulary)
    if vocabulary <= most:
        return np.arange(vocabulary)
    class_of = np.full(vocabulary, most - 1)
    class_of[np.argsort(-counts, kind="stable")[: most - 1]] = np.arange(most - 1)
    return class_of
