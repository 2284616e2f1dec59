"""Checks what layers publish in `shared` for later layers: one value per position, or weights.

Shapes: B rows, T tokens.
"""

import torch
from torch import Tensor

from assay.audit.contract.models import Reasons, ids_for, smallest_redrawn
from assay.layers.auxiliary import PREFIX
from assay.layers.mixer import SequenceLayer, Shared
from assay.model.architecture import Architecture
from assay.records import Finding

WEIGHT = "_weight"
"""The names of published parameters end in this."""


@torch.no_grad()
def publishing(architecture: Architecture) -> Finding:
    """What a layer puts into `shared` is 1. [B, T, ...], something for each position; 2. where its name ends in
    `_weight`, a parameter of that layer; and 3. the ids of the call stay as they are. Losses,
    which the objective alone reads, have no positions.
    """
    model, reasons = smallest_redrawn(architecture), Reasons()
    ids = ids_for(model)
    x, given = model.embedding(ids), ids.clone()
    shared: Shared = {"ids": ids}
    for index, block in enumerate(model.sequence_blocks()):
        for layer in block.layers():
            before = dict(shared)
            layer(x, None, shared)
            name = f"blocks.{index} ({type(layer).__name__})"
            for key, value in shared.items():
                if before.get(key) is not value and key != "ids" and not key.startswith(PREFIX):
                    _judge(layer, name, key, value, ids, reasons)
            if shared.get("ids") is not ids or not torch.equal(ids, given):
                reasons.note(3, f"{name} changes shared['ids'], which belongs to the model")
                shared["ids"] = ids
    return reasons.finding("publishing", "what layers share has a part for each position, or is a weight")


def _judge(layer: SequenceLayer, name: str, key: str, value: Tensor, ids: Tensor, reasons: Reasons) -> None:
    if key.endswith(WEIGHT):
        places = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
        if value.untyped_storage().data_ptr() not in places:
            reasons.note(2, f"{name} publishes shared[{key!r}], which is no parameter of it as `{WEIGHT}` says")
    elif value.shape[:2] != ids.shape:
        shape, needed = list(value.shape), list(ids.shape)
        words = f"{name} publishes shared[{key!r}] {shape}; [B, T, ...] is needed, {needed} and on"
        reasons.note(1, f"{words}: what has no axis of positions may have seen later ones")
