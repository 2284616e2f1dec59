"""The residual stream by component: what the embedding, each mixer and each channel mixer add to it.

Shapes: N sequences, T tokens, D d_model.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.evaluation.inside.sequences import Sequences, evaluating, hooked
from assay.layers.mixer import SequenceLayer
from assay.model.lm import Block, LanguageModel
from assay.model.plan import ExecutionPlan

Floats = np.ndarray


class Moments(NamedTuple):
    """Of each sequence: how many numbers, their sum and the sum of their squares, float64 [N]."""

    numbers: Floats
    total: Floats
    squares: Floats

    @property
    def std(self) -> float:
        """Standard deviation over all numbers of all sequences."""
        return float(_std(*(part.sum() for part in self)))

    @property
    def rms(self) -> float:
        """Root mean square over the same."""
        return float(np.sqrt(self.squares.sum() / self.numbers.sum()))

    def std_without_each(self) -> Floats:
        """[N] the standard deviation over all sequences but one."""
        return _std(*(part.sum() - part for part in self))


class Stream(NamedTuple):
    """Moments by site, cosines of the stream before and after each block, and each component's share of the last."""

    moments: dict[str, Moments]
    """`embedding`; and of block i `i.in` (what the mixer reads), `i.mixer`, `i.channel_mixer`, `i.out`, `i.NAME` of
    each layer inside a mixer that fuses several."""
    cosines: list[float]
    shares: dict[str, float]
    """`embedding`, `i.mixer`, `i.channel_mixer`: <component, last> / <last, last>, summed over all positions."""
    logits_std: float
    """Over the vocabulary, root mean square over positions."""


def fused_layers(mixer: SequenceLayer) -> dict[str, SequenceLayer]:
    """The sequence layers directly inside a mixer that fuses several; none where it does not."""
    found = {name: layer for name, layer in mixer.named_children() if isinstance(layer, SequenceLayer)}
    return found if len(found) > 1 else {}


@torch.no_grad()
def read_stream(model: LanguageModel, sequences: Sequences, plan: ExecutionPlan) -> Stream:
    """The stream on `sequences`, in batches."""
    batches = [_read(model, sequences.inputs[rows], plan) for rows in sequences.batches()]
    sites = batches[0].moments.keys()
    moments = {
        site: Moments(*map(np.concatenate, zip(*(b.moments[site] for b in batches), strict=True))) for site in sites
    }
    last = sum(batch.last for batch in batches)
    tokens = [batch.tokens for batch in batches]
    return Stream(
        moments,
        [float(np.average(of, weights=tokens)) for of in zip(*(batch.cosines for batch in batches), strict=True)],
        {name: _share(sum(batch.products[name] for batch in batches), last) for name in batches[0].products},
        float(np.sqrt(np.average([batch.logits for batch in batches], weights=tokens))),
    )


class _Batch(NamedTuple):
    """What is read of one batch; sums of products are over all of it, cosines and variances means."""

    tokens: int
    moments: dict[str, Moments]
    cosines: list[float]
    products: dict[str, float]
    last: float
    logits: float


def _read(model: LanguageModel, inputs: np.ndarray, plan: ExecutionPlan) -> _Batch:
    seen: dict[str, Tensor] = {}

    def keep(site: str) -> Callable[[Tensor], None]:
        return lambda x: seen.__setitem__(site, x.float())

    hooks: list[tuple[nn.Module, Callable[[Tensor], None]]] = [(model.embedding, keep("embedding"))]
    for index, block in enumerate(model.blocks):
        hooks.append((block, keep(f"{index}.out")))
        if isinstance(block, Block):
            hooks += [(block.mixer_norm, keep(f"{index}.in")), (block.mixer, keep(f"{index}.mixer"))]
            hooks += [(layer, keep(f"{index}.{name}")) for name, layer in fused_layers(block.mixer).items()]
            if block.channel_mixer is not None:
                hooks.append((block.channel_mixer, keep(f"{index}.channel_mixer")))
    with evaluating(model), hooked(hooks), plan.autocast():
        hidden, _ = model.hidden(torch.from_numpy(inputs).to(plan.device))
        logits = [float(model.head(row).double().var(-1, unbiased=False).mean()) for row in hidden]  # may be large
    depths = [seen["embedding"], *(seen[f"{index}.out"] for index in range(len(model.blocks)))]
    last = depths[-1]
    added = {site: x for site, x in seen.items() if site == "embedding" or site.endswith((".mixer", ".channel_mixer"))}
    return _Batch(
        inputs.size,
        {site: _moments(x) for site, x in seen.items()},
        [float(torch.cosine_similarity(a.double(), b.double(), dim=-1).mean()) for a, b in pairwise(depths)],
        {site: float((x.double() * last.double()).sum()) for site, x in added.items()},
        float(last.double().square().sum()),
        float(np.mean(logits)),
    )


def _moments(x: Float[Tensor, "N T D"]) -> Moments:
    flat = x.double().flatten(1)
    sums = (flat.sum(1).cpu().numpy(), flat.square().sum(1).cpu().numpy())
    return Moments(np.full(len(flat), float(flat.shape[1])), *sums)


def _std(numbers: Floats, total: Floats, squares: Floats) -> Floats:
    std: Floats = np.sqrt(np.maximum(0.0, squares - total**2 / numbers) / np.maximum(1.0, numbers - 1))
    return std


def _share(product: float, last: float) -> float:
    return product / last if last > 0 else 0.0
