"""Mamba-2 as published: blocks of one mixer each, a scalar decay per head, no channel mixer."""

from pydantic import Field, model_validator

from assay.layers.basic import RMSNorm, uniform_fan_in_
from assay.layers.mamba2 import Mamba2
from assay.model.architecture import Architecture, Scale, register
from assay.model.neighbours import ShortConvolution
from assay.model.proportions import head_dim_of, transformer_depth


class Mamba2Config(ShortConvolution):
    """The published proportions. The native body has no channel mixer, so d_ff belongs to the common one."""

    d_state: int = Field(128, ge=1)
    head_dim: int = Field(64, ge=1)
    expand: int = Field(2, ge=1)
    n_groups: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "Mamba2Config":
        inner = self.expand * self.d_model
        if inner % self.head_dim:
            raise ValueError(f"head_dim ({self.head_dim}) does not divide expand * d_model ({inner}); give multiples")
        if (inner // self.head_dim) % self.n_groups:
            raise ValueError(f"n_groups ({self.n_groups}) does not divide the {inner // self.head_dim} heads")
        if self.d_ff is not None and self.body == "native":
            raise ValueError(f"d_ff ({self.d_ff}): Mamba-2 has no channel mixer; only body=common has one")
        return self


register(
    Architecture(
        name="mamba2",
        letter="M",
        summary="State space model with a scalar decay per head, without channel mixers (Mamba-2)",
        citation="Dao and Gu 2024, Transformers are SSMs: Generalized Models and Efficient Algorithms",
        config=Mamba2Config,
        mixer=lambda config, _: Mamba2(
            config.d_model,
            config.d_state,
            config.head_dim,
            expand=config.expand,
            n_groups=config.n_groups,
            conv_width=config.filter_width,
            n_layers=config.n_layers,
        ),
        channel_mixer=lambda _, __: None,
        norm=lambda width: RMSNorm(width, eps=1e-5),
        embedding_decay=False,
        published_head="tied",
        head_draw=uniform_fan_in_,
        scale=Scale(
            width_step=8,
            depth=lambda width: 2 * transformer_depth(width),
            fine="d_state",
            fine_step=4,
            fine_default=lambda width: 64 if width < 512 else 128,
            dimensions=lambda width: {"head_dim": head_dim_of(width, 2 * width)},
        ),
        tiny={"d_model": 32, "n_layers": 2, "d_state": 16, "head_dim": 16, "vocab_size": 61},
    )
)
