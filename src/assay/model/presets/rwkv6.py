"""RWKV-6 "Finch" as published: data-dependent token shift and decay, matrix-valued state, squared-ReLU channel mix."""

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor

from assay.layers.basic import LayerNorm, orthogonal_
from assay.layers.rwkv6 import RWKV6ChannelMix, RWKV6TimeMix
from assay.model.architecture import Architecture, Scale, register, uniform
from assay.model.neighbours import TokenShift
from assay.model.proportions import head_dim_of


class RWKV6Config(TokenShift):
    """The published proportions; d_ff None is 3.5 d_model."""

    head_dim: int = Field(64, ge=1)
    shift_rank: int = Field(32, ge=1)
    decay_rank: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "RWKV6Config":
        if self.d_model % self.head_dim:
            raise ValueError(f"head_dim ({self.head_dim}) does not divide d_model ({self.d_model}); give multiples")
        return self


def channel_width(d_model: int) -> int:
    """3.5 d_model, a multiple of 32 as published."""
    return max(32, int(3.5 * d_model) // 32 * 32)


def orthogonal_head(weight: Tensor, generator: torch.Generator) -> None:
    """The official head [V, D]: orthogonal with gain 0.5 sqrt(V / D), or 0.5 where V is no larger than D."""
    vocab_size, d_model = weight.shape
    orthogonal_(weight, 0.5 * math.sqrt(max(1.0, vocab_size / d_model)), generator)


register(
    Architecture(
        name="rwkv6",
        letter="R",
        summary="Linear attention with a data-dependent decay per channel (RWKV-6, Finch)",
        citation="Peng et al. 2024, Eagle and Finch: RWKV with Matrix-Valued States and Dynamic Recurrence",
        config=RWKV6Config,
        mixer=lambda config, layer: RWKV6TimeMix(
            config.d_model,
            config.head_dim,
            layer,
            config.n_layers,
            decay_rank=config.decay_rank,
            shift_rank=config.shift_rank,
            token_shift=config.token_shift,
        ),
        channel_mixer=lambda config, layer: RWKV6ChannelMix(
            config.d_model,
            config.d_ff or channel_width(config.d_model),
            layer,
            config.n_layers,
            token_shift=config.token_shift,
        ),
        norm=LayerNorm,
        embedding_norm=LayerNorm,
        embedding_draw=uniform(1e-4),
        head_draw=orthogonal_head,
        scale=Scale(
            width_step=16,
            fine="d_ff",
            fine_step=4,
            fine_default=channel_width,
            dimensions=lambda width: {"head_dim": head_dim_of(width, width)},
        ),
        tiny={
            "d_model": 32,
            "n_layers": 2,
            "head_dim": 16,
            "vocab_size": 61,
            "shift_rank": 4,
            "decay_rank": 8,
        },
    )
)
