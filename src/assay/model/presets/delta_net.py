"""DeltaNet as published: short convolutions, a memory corrected by the delta rule, RMSNorm and SwiGLU."""

from pydantic import Field

from assay.layers.basic import ProjectionDraws, SwiGLU
from assay.layers.delta_net import INITIAL_STD, DeltaNet
from assay.model.architecture import Architecture, Fine, Scale, normal, register
from assay.model.neighbours import ShortConvolution
from assay.model.proportions import swiglu_width

PUBLISHED_DRAWS = ProjectionDraws(normal(INITIAL_STD), normal(INITIAL_STD))


def key_width(d_model: int) -> int:
    """Key width of a head: 64 from a d_model of 512 on, below it 32 or half of d_model, so that there are several."""
    return 64 if d_model >= 512 else max(1, min(32, d_model // 2))


def n_heads_of(d_model: int, share: float) -> int:
    """The number of heads whose keys together are about `share` of d_model wide; it need not divide d_model."""
    return max(1, round(share * d_model / key_width(d_model)))


class DeltaNetConfig(ShortConvolution):
    """The published proportions: the heads' keys together are as wide as the model, and so are their values."""

    n_heads: int = Field(8, ge=1)
    head_dim: int = Field(64, ge=1)
    """Width of a query and of a key."""
    value_dim: int | None = Field(None, ge=1)
    """Width of a value; None is head_dim, as published."""
    conv_width: int = Field(4, ge=0)
    """Tokens that a filter sees; 0 leaves the convolutions out, as short_conv=false does."""
    output_gate: bool = False
    negative_eigenvalues: bool = False
    """Beta in 0...2 instead of 0...1."""


register(
    Architecture(
        name="delta-net",
        summary="Linear attention with the delta rule: a write corrects what its key recalls (DeltaNet)",
        citation="Yang et al. 2024, Parallelizing Linear Transformers with the Delta Rule over Sequence Length",
        config=DeltaNetConfig,
        mixer=lambda config, _: DeltaNet(
            config.d_model,
            config.n_heads,
            config.head_dim,
            config.value_dim or config.head_dim,
            conv_width=config.filter_width,
            output_gate=config.output_gate,
            negative_eigenvalues=config.negative_eigenvalues,
        ),
        channel_mixer=lambda config, _: SwiGLU(
            config.d_model, config.d_ff or swiglu_width(config.d_model), PUBLISHED_DRAWS
        ),
        scale=Scale(
            dimensions=lambda width: {"head_dim": key_width(width), "n_heads": n_heads_of(width, 1.0)},
            state_fine=Fine("value_dim", 1, key_width),
        ),
        tiny={"d_model": 32, "n_layers": 2, "n_heads": 2, "head_dim": 16, "vocab_size": 61},
        letter="D",
    )
)
