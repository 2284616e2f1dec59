"""Balancing: a state that training calls nudge by counts of hard choices, which is training and no memory of tokens.

Loss-free balancing (Wang et al. 2024) is such a state: each training call moves an expert's bias by 0.001, up or down.

Shapes: B rows, T tokens, D width.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from assay.audit.probing.evidence import largest_change
from assay.audit.probing.yardstick import Yardstick
from assay.audit.subject.embedding import AtEmbedding
from assay.audit.subject.subject import Subject

NUDGE = 0.05
"""The most that one call may move an element of the state, in whatever unit the model keeps it."""
SHIFT = 1e-5
"""How far embeddings are moved, relatively, to tell counts of choices from what is computed of the tokens' values."""
TURNS = (1, 2, 3)

Change = Callable[[Tensor], Tensor]


def balanced_by(subject: Subject, x: Tensor, y: Tensor, yardstick: Yardstick) -> tuple[str, float] | None:
    """What makes a training call on `y` [B, T] differ after one on `x` [B, T]: (name of a state, largest nudge).

    None unless all of these hold: the difference is that of parameters, buffers and tensors of modules alone, each of
    which a call moves by NUDGE at most; they do not change when the embeddings of `x` are moved by SHIFT, so they hold
    counts and not values; and they do change when the embeddings are turned, so they do not hold the ids.
    """
    subject.memory.restore()
    fresh = _state(subject.model)
    after_x = _after(subject, x)
    subject.memory.restore()
    subject.one_call(x, training=True)
    wanted = subject.one_call(y, training=True)
    after_y = _after(subject, y)
    if after_x is None or after_y is None:
        return None
    nudges = {
        name: max(_moved(before, after_x[name]), _moved(before, after_y[name]))
        for name, before in fresh.items()
        if after_x[name].shape == after_y[name].shape == before.shape and not torch.equal(after_x[name], after_y[name])
    }
    nudges = {name: nudge for name, nudge in nudges.items() if nudge <= NUDGE}
    if not nudges:
        return None
    with torch.no_grad():  # the state after `y`, but for what was nudged, which is that after `x`
        for name, tensor in _tensors(subject.model).items():
            if name in nudges:
                tensor.copy_(after_x[name])
    if largest_change(wanted, subject.one_call(y, training=True), yardstick).excess > 1:
        return None
    noise = torch.Generator().manual_seed(0)

    def shifted(vectors: Tensor) -> Tensor:
        return vectors * (1 + SHIFT * torch.randn(vectors.shape, generator=noise).to(vectors))

    still = _after(subject, x, shifted)
    if still is None or not all(torch.equal(still[name], after_x[name]) for name in nudges):
        return None
    for turn in TURNS:
        turned = _after(subject, x, partial(torch.roll, shifts=turn, dims=-1))
        if turned is not None and any(not torch.equal(turned[name], after_x[name]) for name in nudges):
            return max(nudges.items(), key=lambda item: item[1])
    return None


def _after(subject: Subject, ids: Tensor, change: Change | None = None) -> dict[str, Tensor] | None:
    """The state after one training call on `ids` [B, T] on a fresh copy, its embeddings changed; None if none is seen.

    The copy is left in that state.
    """
    seen = change is None

    def at_embedding(vectors: Tensor) -> Tensor:
        nonlocal seen
        seen = True
        return vectors if change is None else change(vectors)

    subject.memory.restore()
    with AtEmbedding(ids, at_embedding):
        subject.one_call(ids, training=True)
    return _state(subject.model) if seen else None


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter, buffer and tensor attribute of a module, by its name."""
    return {
        f"{name}.{key}".lstrip("."): value
        for name, module in model.named_modules()
        for holder in (module._parameters, module._buffers, vars(module))
        for key, value in holder.items()
        if isinstance(value, Tensor)
    }


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}


def _moved(before: Tensor, after: Tensor) -> float:
    return (after.double() - before.double()).abs().amax().item() if before.numel() else 0.0
