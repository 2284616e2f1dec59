"""RWKV-7 "Goose" as published: a generalised delta rule with channel-wise decay, value residual, squared-ReLU MLP."""

from pydantic import Field, model_validator

from assay.layers.basic import LayerNorm
from assay.layers.rwkv7 import Ranks, RWKV7ChannelMix, RWKV7TimeMix, official_ranks
from assay.model.architecture import Architecture, Scale, register, uniform
from assay.model.neighbours import TokenShift
from assay.model.presets.rwkv6 import orthogonal_head
from assay.model.proportions import head_dim_of


class RWKV7Config(TokenShift):
    """The published proportions; d_ff None means 4 d_model, a rank of None that of `official_ranks`."""

    head_dim: int = Field(64, ge=1)
    decay_rank: int | None = Field(None, ge=1)
    rate_rank: int | None = Field(None, ge=1)
    value_rank: int | None = Field(None, ge=1)
    gate_rank: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "RWKV7Config":
        if self.d_model % self.head_dim:
            raise ValueError(f"head_dim ({self.head_dim}) does not divide d_model ({self.d_model}); give multiples")
        return self

    def ranks(self) -> Ranks:
        """The ranks that were given, for the others those of `official_ranks`."""
        published = official_ranks(self.d_model)
        return Ranks(
            self.decay_rank or published.decay,
            self.rate_rank or published.rate,
            self.value_rank or published.value,
            self.gate_rank or published.gate,
        )


def mlp_width(d_model: int) -> int:
    """4 d_model, as published."""
    return 4 * d_model


register(
    Architecture(
        name="rwkv7",
        summary="Generalised delta rule with a data-dependent decay and learning rate per channel (RWKV-7, Goose)",
        citation="Peng et al. 2025, RWKV-7 'Goose' with Expressive Dynamic State Evolution",
        config=RWKV7Config,
        mixer=lambda config, layer: RWKV7TimeMix(
            config.d_model,
            config.head_dim,
            layer,
            config.n_layers,
            first=layer == 0,
            ranks=config.ranks(),
            token_shift=config.token_shift,
        ),
        channel_mixer=lambda config, layer: RWKV7ChannelMix(
            config.d_model,
            config.d_ff or mlp_width(config.d_model),
            layer,
            config.n_layers,
            token_shift=config.token_shift,
        ),
        norm=LayerNorm,
        embedding_norm=LayerNorm,
        embedding_draw=uniform(1e-4),
        head_draw=orthogonal_head,
        letter="7",
        scale=Scale(
            width_step=16,
            fine="d_ff",
            fine_step=4,
            fine_default=mlp_width,
            dimensions=lambda width: {"head_dim": head_dim_of(width, width)},
        ),
        tiny={
            "d_model": 32,
            "n_layers": 2,
            "head_dim": 16,
            "vocab_size": 61,
            "decay_rank": 8,
            "rate_rank": 6,
            "value_rank": 4,
            "gate_rank": 10,
        },
    )
)
