"""Gated DeltaNet as published: DeltaNet with one decay per head, wide values and an output gate; RMSNorm and SwiGLU."""

from typing import Literal

from pydantic import Field, model_validator

from assay.layers.basic import SwiGLU
from assay.layers.gated_delta_net import GatedDeltaNet
from assay.model.architecture import Architecture, Fine, Scale, register
from assay.model.presets.delta_net import PUBLISHED_DRAWS, DeltaNetConfig, key_width, n_heads_of
from assay.model.proportions import swiglu_width


class GatedDeltaNetConfig(DeltaNetConfig):
    """The published proportions: keys together 3/4 of the width, each value twice as wide as its key."""

    n_heads: int = Field(6, ge=1)
    n_value_heads: int | None = Field(None, ge=1)
    """A multiple of n_heads, the number of query and key heads; None means n_heads."""
    value_dim: int | None = Field(None, ge=1)
    """Width of a value; None is twice head_dim, as published."""
    output_gate: bool = True
    error: Literal["after", "before"] = "after"
    """Whether a write corrects the memory after its decay, as published, or before it, as in the GroundThink hybrid."""

    @model_validator(mode="after")
    def _value_heads_divide(self) -> "GatedDeltaNetConfig":
        if self.n_value_heads is not None and self.n_value_heads % self.n_heads:
            raise ValueError(
                f"model.n_value_heads: {self.n_value_heads} given, not a multiple of n_heads ({self.n_heads});"
                f" {-(-self.n_value_heads // self.n_heads) * self.n_heads} would do"
            )
        return self


register(
    Architecture(
        name="gated-delta-net",
        summary="DeltaNet whose memory also decays, by a data-dependent factor per head (Gated DeltaNet)",
        citation="Yang et al. 2024, Gated Delta Networks: Improving Mamba2 with Delta Rule",
        config=GatedDeltaNetConfig,
        mixer=lambda config, _: GatedDeltaNet(
            config.d_model,
            config.n_heads,
            config.head_dim,
            config.value_dim or 2 * config.head_dim,
            n_value_heads=config.n_value_heads,
            conv_width=config.filter_width,
            output_gate=config.output_gate,
            negative_eigenvalues=config.negative_eigenvalues,
            error=config.error,
        ),
        channel_mixer=lambda config, _: SwiGLU(
            config.d_model, config.d_ff or swiglu_width(config.d_model), PUBLISHED_DRAWS
        ),
        scale=Scale(
            dimensions=lambda width: {"head_dim": key_width(width), "n_heads": n_heads_of(width, 0.75)},
            state_fine=Fine("value_dim", 1, lambda width: 2 * key_width(width)),
        ),
        tiny={"d_model": 32, "n_layers": 2, "n_heads": 2, "head_dim": 12, "vocab_size": 61},
        letter="G",
    )
)
