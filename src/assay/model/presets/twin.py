"""Twin: RWKV-6 and Mamba-2 side by side in every block, fused; the body is RWKV-6's."""

from pydantic import Field, model_validator

from assay.layers.basic import LayerNorm
from assay.layers.mamba2 import Mamba2
from assay.layers.rwkv6 import RWKV6ChannelMix, RWKV6TimeMix
from assay.layers.twin.fusions import ARBITERS, FUSIONS, WITHOUT_GATE, FusionName
from assay.layers.twin.twin import Twin
from assay.model.architecture import Architecture, Fine, Scale, register, uniform
from assay.model.neighbours import ShortConvolution, TokenShift
from assay.model.presets.rwkv6 import channel_width, orthogonal_head
from assay.model.proportions import head_dim_of

BALANCED = 0.5
DEBATE_WEIGHT = 0.1


class TwinConfig(ShortConvolution, TokenShift):
    """Both mixers' published proportions, with a state of Mamba-2 of half the published width, and the fusion."""

    fusion: FusionName = "arbiter-mingru"
    initial_gate: float | None = Field(None, gt=0, lt=1)
    """RWKV-6's share at the start, for fusions that have weights: 0.7 leans to RWKV-6; None is 0.5, balanced."""
    mamba_residual: bool = False
    """Give the Mamba-2 path its own residual: x + Mamba2(x), x being the normalised input."""
    path_drop: float = Field(0.0, ge=0, lt=1)
    """Probability that a sequence loses the RWKV-6 path, in training."""
    diversity_weight: float | None = Field(None, ge=0)
    """Weight of the loss (1 + cosine of both paths) / 2, a mean over blocks; None is 0.1 for arbiters, 0 for others."""
    arbiter_weight: float | None = Field(None, ge=0)
    """Weight of the arbiter's loss, a mean over blocks; None is 0.1 for arbiters, and only they have that loss."""
    head_dim: int = Field(64, ge=1)
    shift_rank: int = Field(32, ge=1)
    decay_rank: int = Field(64, ge=1)
    d_state: int = Field(64, ge=1)
    mamba_head_dim: int = Field(64, ge=1)
    expand: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "TwinConfig":
        inner = self.expand * self.d_model
        for name, head, width in (
            ("head_dim", self.head_dim, self.d_model),
            ("mamba_head_dim", self.mamba_head_dim, inner),
        ):
            if width % head:
                raise ValueError(
                    f"model.{name}: {head} given, a divisor of {width}, the channels it shares out, would do"
                )
        if self.initial_gate is not None and self.fusion in WITHOUT_GATE:
            raise ValueError(
                f"model.initial_gate: {self.initial_gate} given, fusion {self.fusion} has no weights; leave it out"
            )
        if self.arbiter_weight and self.fusion not in ARBITERS:
            raise ValueError(
                f"model.arbiter_weight: {self.arbiter_weight} given, fusion {self.fusion} has no arbiter; leave it out"
            )
        return self

    def loss_weight(self, given: float | None) -> float:
        """The weight of one block's loss: the total (`given`, or the fusion's default) shared among the blocks."""
        default = DEBATE_WEIGHT if self.fusion in ARBITERS else 0.0
        return (default if given is None else given) / self.n_layers


def mixer(config: TwinConfig, layer: int) -> Twin:
    """The mixer of one block; its output projections are scaled for two residual branches per block."""
    gate = BALANCED if config.initial_gate is None else config.initial_gate
    return Twin(
        RWKV6TimeMix(
            config.d_model,
            config.head_dim,
            layer,
            config.n_layers,
            config.decay_rank,
            config.shift_rank,
            token_shift=config.token_shift,
        ),
        Mamba2(
            config.d_model,
            config.d_state,
            config.mamba_head_dim,
            expand=config.expand,
            conv_width=config.filter_width,
            n_layers=2 * config.n_layers,
        ),
        FUSIONS[config.fusion](config.d_model, gate, config.loss_weight(config.arbiter_weight)),
        mamba_residual=config.mamba_residual,
        path_drop=config.path_drop,
        diversity_weight=config.loss_weight(config.diversity_weight),
    )


register(
    Architecture(
        name="twin",
        summary="RWKV-6 and Mamba-2 in every block, fused by an arbiter, a gate or a projection",
        citation="GroundThink notes 000 and 004; Peng et al. 2024, RWKV-6; Dao and Gu 2024, Mamba-2; Feng et al. 2024",
        config=TwinConfig,
        mixer=mixer,
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
            fine_default=channel_width,
            dimensions=lambda width: {
                "head_dim": head_dim_of(width, width),
                "mamba_head_dim": head_dim_of(width, 2 * width),
            },
            state_fine=Fine("d_state", 4, lambda _: 64),
        ),
        tiny={
            "d_model": 32,
            "n_layers": 2,
            "head_dim": 16,
            "vocab_size": 61,
            "shift_rank": 4,
            "decay_rank": 8,
            "d_state": 16,
            "mamba_head_dim": 16,
        },
    )
)
