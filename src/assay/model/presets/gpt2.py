"""GPT-2 as published, and gpt2ish, the same in other dimensions: the baselines of the research code LMPlay.

LMPlay's baselines are described in document 003, its page on them.
"""

from typing import Any, NamedTuple

from pydantic import Field, create_model

from assay.layers.attention import CausalAttention
from assay.layers.basic import GeluMLP, LayerNorm, gpt2_draws
from assay.model.architecture import Architecture, AttentionHeads, Scale, normal, register
from assay.model.proportions import n_heads_of


class GPT2Config(AttentionHeads):
    """GPT-2 small. Its published dropout is 0.1; the default here is 0, as small runs see each token once."""

    d_model: int = Field(768, ge=1)
    n_layers: int = Field(12, ge=1)
    n_heads: int = Field(12, ge=1)
    max_positions: int = Field(1024, ge=1)


def attention(config: GPT2Config, _: int) -> CausalAttention:
    """Attention with biases, drawn from N(0, 0.02^2)."""
    draws = gpt2_draws(config.n_layers)
    return CausalAttention(config.d_model, config.n_heads, bias=True, dropout=config.dropout, draws=draws)


def mlp(config: GPT2Config, _: int) -> GeluMLP:
    """The tanh GELU MLP with biases, four times as wide as the model."""
    d_ff = config.d_ff or 4 * config.d_model
    return GeluMLP(config.d_model, d_ff, approximate="tanh", bias=True, draws=gpt2_draws(config.n_layers))


def gpt2(name: str, summary: str, citation: str, config: type[GPT2Config]) -> Architecture:
    """The recipe with the default dimensions of `config`.

    Initialisation of the published TensorFlow code: tokens and matrices N(0, 0.02^2), positions N(0, 0.01^2), biases
    0; of the paper: what is added to the residual stream over sqrt(2 n_layers). (transformers draws the positions
    from N(0, 0.02^2).)
    """
    return Architecture(
        name=name,
        summary=summary,
        citation=citation,
        config=config,
        mixer=attention,
        channel_mixer=mlp,
        norm=LayerNorm,
        max_positions=lambda config: config.max_positions,
        embedding_draw=normal(0.02),
        position_draw=normal(0.01),
        published_head="tied",
        scale=Scale(
            fine_default=lambda width: 4 * width,
            dimensions=lambda width: {"n_heads": n_heads_of(width)},
        ),
        tiny={"d_model": 32, "n_layers": 2, "n_heads": 2, "vocab_size": 61, "max_positions": 512},
    )


register(
    gpt2(
        "gpt2",
        "Transformer with learned positions, LayerNorm and GELU, as published (GPT-2)",
        "Radford et al. 2019, Language Models are Unsupervised Multitask Learners",
        GPT2Config,
    )
)


class Shape(NamedTuple):
    """The dimensions and the summary of one gpt2ish model; all of them have context 1024 and dropout 0.1."""

    n_layers: int
    d_model: int
    n_heads: int
    words: str


GPT2ISH = {
    "gpt2ish": Shape(6, 768, 12, "GPT-2 with half of GPT-2 small's depth (baseline of the research code LMPlay)"),
    "gpt2ish-med": Shape(24, 1024, 16, "GPT-2 in the shape of GPT-2 medium (baseline of the research code LMPlay)"),
    "gpt2ish-large": Shape(36, 1280, 20, "GPT-2 in the shape of GPT-2 large (baseline of the research code LMPlay)"),
    "s-gpt2ish": Shape(18, 288, 6, "GPT-2, small and deep (baseline of the research code LMPlay)"),
    "gpt2ish-test": Shape(6, 64, 2, "GPT-2 for quick tests (baseline of the research code LMPlay)"),
}
"""LMPlay's page gives the test model's heads and width only; its depth here is that of `gpt2ish`."""


def gpt2ish_config(shape: Shape) -> type[GPT2Config]:
    """GPT-2's options with the defaults of `shape`."""
    sizes: dict[str, Any] = {key: (int, Field(getattr(shape, key), ge=1)) for key in ("n_layers", "d_model", "n_heads")}
    return create_model("GPT2ishConfig", __base__=GPT2Config, dropout=(float, Field(0.1, ge=0, lt=1)), **sizes)


for _name, _shape in GPT2ISH.items():
    register(gpt2(_name, _shape.words, "LMPlay's gpt2ish, after Radford et al. 2019 (GPT-2)", gpt2ish_config(_shape)))
