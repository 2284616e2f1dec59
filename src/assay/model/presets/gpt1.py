"""GPT-1 as in document 000, a research note on a GPT-1 baseline: attention and a GELU MLP, RMSNorm before each, learned
positions, no biases.
"""

from pydantic import Field

from assay.layers.attention import CausalAttention
from assay.layers.basic import GeluMLP
from assay.model.architecture import Architecture, AttentionHeads, Scale, register, uniform
from assay.model.proportions import n_heads_of


class GPT1Config(AttentionHeads):
    """The dimensions of document 000, with 4,370,832 parameters at a vocabulary of 16000."""

    d_model: int = Field(144, ge=1)
    n_layers: int = Field(8, ge=1)
    n_heads: int = Field(4, ge=1)
    max_positions: int = Field(512, ge=1)


register(
    Architecture(
        name="gpt1",
        summary="Transformer with learned positions, RMSNorm and no biases (GPT-1 in today's form)",
        citation="Radford et al. 2018, Improving Language Understanding by Generative Pre-Training",
        config=GPT1Config,
        mixer=lambda config, _: CausalAttention(config.d_model, config.n_heads, dropout=config.dropout),
        channel_mixer=lambda config, _: GeluMLP(config.d_model, config.d_ff or 4 * config.d_model),
        max_positions=lambda config: config.max_positions,
        embedding_draw=uniform(1e-4),
        published_head="tied",
        scale=Scale(
            width_step=8,
            fine="d_ff",
            fine_step=4,
            fine_default=lambda width: 4 * width,
            dimensions=lambda width: {"n_heads": n_heads_of(width)},
        ),
        tiny={"d_model": 32, "n_layers": 2, "n_heads": 2, "vocab_size": 61, "max_positions": 512},
    )
)
