"""Initial weights: every part of a model is drawn from a generator of its own.

A part's generator is seeded by (seed, replicate, index of its block, role) and by nothing else. The roles are those of
`LanguageModel.parts`: the token and the position table, the embedding's norm, in each block the mixer, the channel
mixer and their norms, the last norm, an untied head. So replacing a mixer, adding positions or a block, or untying the
head changes the draw of no other part: two models of one seed have equal initial weights in the parts they share.
(A layer that scales its draw by the number of layers gives other values for another depth, from the same draw.)

A mixer is one part, however many modules there are in it.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from assay.model.lm import LanguageModel, Part, table_part
from assay.seeding import derive

Initialisation = Literal["own", "blinkdl"]


def initialise(
    model: LanguageModel, name: Initialisation, seed: int, replicate: int = 0, *, mixers_only: bool = False
) -> None:
    """Draw every parameter as the architecture says (`own`), or with `blinkdl` on top.

    `blinkdl`, named after Bo Peng (BlinkDL on GitHub), the author of RWKV, then draws the embedding uniformly within
    +-1e-4 and sets every projection into the residual stream to zero. Each `replicate` is another draw for the same
    seed; with `mixers_only` only the mixers are drawn anew, and the rest starts as in every other replicate.
    """
    with torch.no_grad():
        for part in (*model.parts(), *(_blinkdl_tables(model) if name == "blinkdl" else ())):
            salt = 0 if mixers_only and part.role != "mixer" else replicate
            part.draw(torch.Generator().manual_seed(derive(seed, f"init/{part.role}", part.block, replicate=salt)))
        if name == "blinkdl":
            _zero_outputs(model)


def _blinkdl_tables(model: LanguageModel) -> Iterator[Part]:
    """The embedding's tables, to be drawn again uniformly within +-1e-4, as in research note "document 000"."""
    tables = {"blinkdl/tokens": model.embedding.tokens, "blinkdl/positions": model.embedding.positions}
    for role, table in tables.items():
        if table is not None:
            yield table_part(role, table, lambda t, generator: nn.init.uniform_(t, -1e-4, 1e-4, generator=generator))


def _zero_outputs(model: LanguageModel) -> None:
    """Set every projection into the residual stream to zero, as in research note "document 000"."""
    for block in model.sequence_blocks():
        for layer in block.layers():
            for weight in layer.residual_outputs():
                nn.init.zeros_(weight)
