"""Models whose `forward` takes a whole batch, a mapping or a pair, instead of ids: made to take ids and targets.

Shapes: B rows, T tokens.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.calling.labels import shifted_by_caller, takes_labels
from assay.audit.calling.signatures import parameters_of

_NAMES = ("batch", "data", "sample", "samples", "example", "examples", "features", "fields", "item", "items")
LENGTHS = (8, 16, 64, 128)
"""Numbers of tokens to try a batch with; models may take multiples of some length alone."""


class Batch(dict[str, Any]):
    """A batch that has whatever field it is asked for: labels by their names, masks of ones, otherwise ids [B, T]."""

    def __init__(self, ids: Tensor, labels: Tensor | None) -> None:
        super().__init__({"input_ids": ids} if labels is None else {"input_ids": ids, "labels": labels})
        self._ids, self._labels = ids, labels

    def __missing__(self, key: str) -> Tensor:
        if takes_labels(key):
            if self._labels is None:
                raise KeyError(key)
            return self._labels
        return torch.ones_like(self._ids) if "mask" in key else self._ids

    def __contains__(self, key: object) -> bool:
        return self._labels is not None if takes_labels(str(key)) else "mask" not in str(key)

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self:
            return default
        return self[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.get(name)


Made = Callable[[Tensor, Tensor | None], Any]


def take_ids(model: nn.Module) -> None:
    """Where `model.forward` takes one batch and not ids, replace it on this object by one of ids and `targets`.

    Where the model needs them, the targets are the next tokens unless they are given.
    """
    parameters = list(parameters_of(model.forward).values())
    if not parameters or any(p.default is p.empty for p in parameters[1:] if p.kind is p.POSITIONAL_OR_KEYWORD):
        return
    annotation = str(parameters[0].annotation).lower()
    if parameters[0].name not in _NAMES and "dict" not in annotation and "mapping" not in annotation:
        return
    ways: list[tuple[Made, bool]] = [(Batch, False), (Batch, True), (lambda ids, labels: (ids, labels), True)]
    if _gives_logits(model, lambda ids, _: ids, False):
        return
    for made, labelled in ways:
        if _gives_logits(model, made, labelled):
            _replace(model, made, labelled)
            return


def _gives_logits(model: nn.Module, made: Made, labelled: bool) -> bool:
    for length in LENGTHS:
        ids = torch.zeros(1, length, dtype=torch.long, device=next((p.device for p in model.parameters()), None))
        try:
            with torch.no_grad():
                output = model(made(ids, shifted_by_caller(ids) if labelled else None))
        except Exception:  # code from outside assay may raise anything on a batch that it does not take
            continue
        if isinstance(output, Mapping):
            members = list(output.values())
        else:
            members = list(output) if isinstance(output, tuple | list) else [output, getattr(output, "logits", None)]
        return any(isinstance(t, Tensor) and t.ndim == 3 and t.shape[:2] == ids.shape for t in members)
    return False


def _replace(model: nn.Module, made: Made, labelled: bool) -> None:
    original = model.forward

    def forward(ids: Tensor, targets: Tensor | None = None) -> Any:
        return original(made(ids, shifted_by_caller(ids) if targets is None and labelled else targets))

    # In the object's dictionary, so that the audit, which puts that back, leaves a model that it cannot copy as it was.
    vars(model)["forward"] = forward
