"""Labels under any name: which arguments of `forward` take the tokens to predict, and what comes back with them.

Shapes: B rows, T tokens, V vocabulary.
"""

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.audit.calling.signatures import parameters_of

_NAMES = re.compile(r"labels?|targets?|tgts?|ys?|gold|truths?|answers?|next|nxt|shifted|future|expected")
"""Words of a name by which an argument is taken for labels, unless it also has one of _NO_LABELS."""
_NO_LABELS = re.compile(
    r"mask|weights?|smoothing|len|length|num|return|drop|ignore|positions?|pos|types?|size|states?|cache|attentions?|"
    r"hidden|embeds?|mode|id|index|sentence|class|mc|router|logits"
)
_USUAL = ("labels", "targets", "target", "y", "tgt", "target_ids", "next_tokens")
"""Names that are tried where `forward` takes any keyword."""


@dataclass(frozen=True)
class Labels:
    """An argument of `forward` that takes labels. `certain` is false for a keyword that is only one of the usual."""

    name: str
    certain: bool = True

    def call(self, model: nn.Module, ids: Tensor, labels: Tensor) -> Any:
        """What `model` returns for ids and labels, both [B, T]."""
        return model(ids, **{self.name: labels})

    def places(self) -> str:
        """The argument in words."""
        return f"`{self.name}`"


def labels_of(model: nn.Module, known: str | None = None) -> list[Labels]:
    """The arguments of `model.forward` that take labels, in the order of the signature; those after the first alone.

    They are told by their names, but for one that is `known` to take them.
    """
    parameters = parameters_of(model.forward)
    found = [
        Labels(name)
        for name, parameter in list(parameters.items())[1:]
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and (parameter.default is None or parameter.default is parameter.empty)
        and (takes_labels(name) or name == known)
    ]
    keywords = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return found if found or not keywords else [Labels(name, certain=False) for name in _USUAL]


def takes_labels(name: str) -> bool:
    """Whether an argument of this name is taken for labels: `labels`, `targets`, `y`, `tgt`, `next_tokens`, ..."""
    words = [word for word in re.split(r"_|\d+|(?<=[a-z])(?=[A-Z])", name) if word]
    if words and words[-1].lower() in ("id", "ids"):
        words = words[:-1]
    return any(_NAMES.fullmatch(word.lower()) for word in words) and not any(
        _NO_LABELS.fullmatch(word.lower()) for word in words
    )


def parts_of(output: Any, ids: Tensor, width: int) -> tuple[Tensor | None, Tensor | None]:
    """The logits [B, T, width] and the loss in what a model returned for `ids` [B, T] and labels, in any order."""
    B, T = ids.shape
    if isinstance(output, Mapping):
        members = list(output.values())
    elif isinstance(output, Tensor | tuple | list):
        members = [output] if isinstance(output, Tensor) else list(output)
    else:
        members = list(vars(output).values()) if hasattr(output, "__dict__") else []
    tensors = [member for member in members if isinstance(member, Tensor) and member.is_floating_point()]
    logits = next((t for t in tensors if t.ndim > 1 and t.shape[-1] == width and t.numel() == B * T * width), None)
    named = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    losses = [t for t in tensors if t.numel() == 1 or (t.numel() in (B * T, B * (T - 1)) and t is not logits)]
    loss = named if isinstance(named, Tensor) else next(iter(losses), None)
    return (None if logits is None else logits.reshape(B, T, width)), loss


def is_cross_entropy(loss: Tensor | None, logits: Tensor, labels: Tensor) -> bool:
    """Whether a loss is the cross-entropy of `labels` [B, T] under `logits` [B, T, V], as given or shifted by one."""
    if loss is None or loss.numel() != 1:
        return False
    shifted = [(logits, labels), (logits[:, :-1], labels[:, 1:])]
    nats = [F.cross_entropy(one.double().flatten(0, 1), of.flatten(), reduction="none") for one, of in shifted]
    return any(math.isclose(loss.item(), value.item(), rel_tol=1e-5) for n in nats for value in (n.mean(), n.sum()))


def shifted_by_caller(ids: Tensor, fill: int | None = None) -> Tensor:
    """Labels [B, T]: at each place the next token; at the last one the first token again, or `fill`."""
    last = ids[:, :1] if fill is None else torch.full_like(ids[:, :1], fill)
    return torch.cat([ids[:, 1:], last], 1)
