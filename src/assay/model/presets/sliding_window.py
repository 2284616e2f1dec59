"""Sliding-window attention in the body of Transformer++: each layer sees the last `window` tokens only."""

from pydantic import Field

from assay.layers.attention import SlidingWindowAttention
from assay.layers.basic import gpt2_draws
from assay.model.architecture import Architecture, Fine, Scale, register
from assay.model.presets.transformer_pp import TransformerPPConfig, rotary_heads, swiglu

WINDOW = 128


class SlidingWindowConfig(TransformerPPConfig):
    """`window` counts the current token. The default is a quarter of a context of 512, so that it limits attention."""

    window: int = Field(WINDOW, ge=1)


def attention(config: SlidingWindowConfig, _: int) -> SlidingWindowAttention:
    """Rotary attention without biases over the last `window` tokens."""
    return SlidingWindowAttention(
        config.d_model,
        config.n_heads,
        config.window,
        n_kv_heads=config.n_kv_heads,
        rope_base=config.rope_base,
        dropout=config.dropout,
        draws=gpt2_draws(config.n_layers),
    )


register(
    Architecture(
        name="sliding-window",
        summary="Transformer++ whose attention sees a window of the last tokens: constant decode memory",
        citation=(
            "Beltagy et al. 2020, Longformer: The Long-Document Transformer; windows counted as in Jiang et al. 2023, "
            "Mistral 7B"
        ),
        config=SlidingWindowConfig,
        mixer=attention,
        channel_mixer=swiglu,
        scale=Scale(dimensions=rotary_heads, state_fine=Fine("window", 1, lambda _: WINDOW)),
        tiny={"d_model": 32, "n_layers": 2, "n_heads": 2, "vocab_size": 61, "window": 5},
        letter="S",
    )
)
