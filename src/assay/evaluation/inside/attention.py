"""Where attention looks: the entropy of its weights and how far back they lie, from its queries and keys.

Shapes: N sequences, T tokens, Q queries that are looked at, H heads, G heads of keys, K head width.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.evaluation.inside.sequences import Sequences, evaluating, hooked
from assay.layers.basic import Tap
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan

QUERIES = 64
"""Positions that are looked at, spread over the sequence."""


class Looking(NamedTuple):
    """Means over heads and queries for each sequence, float64 [N]; and what weights that are all equal give."""

    entropy_nats: np.ndarray
    distance: np.ndarray
    """Tokens back, weighted; 0 is the token itself."""
    equal_entropy_nats: float
    equal_distance: float


def attentions(model: LanguageModel) -> dict[tuple[int, str], nn.Module]:
    """(block, name in it) -> every module with the taps `query_tap` and `key_tap`."""
    return {
        (index, name): module
        for index, block in enumerate(model.blocks)
        for name, module in block.named_modules()
        if isinstance(getattr(module, "query_tap", None), Tap) and isinstance(getattr(module, "key_tap", None), Tap)
    }


@torch.no_grad()
def read_attention(model: LanguageModel, sequences: Sequences, plan: ExecutionPlan) -> dict[tuple[int, str], Looking]:
    """What each attention of the model looks at on `sequences`, read whole; softmax attention with scale K^-1/2."""
    modules = attentions(model)
    if not modules:
        return {}
    seen: dict[tuple[tuple[int, str], str], Tensor] = {}

    def keep(place: tuple[int, str], what: str) -> Callable[[Tensor], None]:
        return lambda x: seen.__setitem__((place, what), x)

    hooks = [
        (getattr(module, f"{what}_tap"), keep(place, what))
        for place, module in modules.items()
        for what in ("query", "key")
    ]
    found: dict[tuple[int, str], list[Looking]] = {place: [] for place in modules}
    for rows in sequences.batches():
        with evaluating(model), hooked(hooks), plan.autocast():
            model.hidden(torch.from_numpy(sequences.inputs[rows]).to(plan.device))
        for place, module in modules.items():
            window: int | None = getattr(module, "window", None)
            found[place].append(_looking(seen[place, "query"], seen[place, "key"], window))
    return {
        place: of[0]._replace(
            entropy_nats=np.concatenate([part.entropy_nats for part in of]),
            distance=np.concatenate([part.distance for part in of]),
        )
        for place, of in found.items()
    }


def _looking(q: Float[Tensor, "N T H K"], k: Float[Tensor, "N T G K"], window: int | None) -> Looking:
    T, (H, K) = q.shape[1], q.shape[2:]
    at = torch.linspace(0, T - 1, min(T, QUERIES), device=q.device).round().long()
    keys = k.float().repeat_interleave(H // k.shape[2], 2)
    scores = torch.einsum("nqhk,nthk->nhqt", q[:, at].float(), keys) / math.sqrt(K)
    back = at[:, None] - torch.arange(T, device=q.device)
    seen = (back >= 0) & (back < (window or T))
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).double()
    keys_seen = seen.sum(-1).double()
    return Looking(
        torch.special.entr(weights).sum(-1).mean((1, 2)).cpu().numpy(),
        (weights * back.clamp(min=0)).sum(-1).mean((1, 2)).cpu().numpy(),
        float(keys_seen.log().mean()),
        float(((keys_seen - 1) / 2).mean()),
    )
