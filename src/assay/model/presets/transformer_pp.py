"""Transformer++: rotary positions, RMSNorm, SwiGLU and no biases, the strong baseline of recent comparisons."""

import math
from typing import Any

from pydantic import Field, model_validator

from assay.layers.attention import CausalAttention
from assay.layers.basic import SwiGLU, gpt2_draws
from assay.model.architecture import Architecture, AttentionHeads, Scale, register
from assay.model.proportions import swiglu_width


class TransformerPPConfig(AttentionHeads):
    """The dimensions of GPT-2 small; `n_kv_heads` None is as many as heads."""

    d_model: int = Field(768, ge=1)
    n_layers: int = Field(12, ge=1)
    n_heads: int = Field(12, ge=1)
    n_kv_heads: int | None = Field(None, ge=1)
    rope_base: float = Field(10000.0, gt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> "TransformerPPConfig":
        if self.d_model // self.n_heads % 2:
            raise ValueError(f"n_heads ({self.n_heads}): rotary positions want an even d_model / n_heads; give another")
        if self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads ({self.n_kv_heads}) does not divide n_heads ({self.n_heads}); give a divisor")
        return self


def attention(config: TransformerPPConfig, _: int) -> CausalAttention:
    """Rotary attention without biases."""
    return CausalAttention(
        config.d_model,
        config.n_heads,
        n_kv_heads=config.n_kv_heads,
        rope_base=config.rope_base,
        dropout=config.dropout,
        draws=gpt2_draws(config.n_layers),
    )


def swiglu(config: TransformerPPConfig, _: int) -> SwiGLU:
    """SwiGLU of 8/3 the model's width: as many weights as an MLP of four times the width."""
    return SwiGLU(config.d_model, config.d_ff or swiglu_width(config.d_model), gpt2_draws(config.n_layers))


def rotary_heads(width: int) -> dict[str, Any]:
    """Heads of about 36 channels, or of 64 from a width of 512 on; always even, as rotary positions need."""
    wanted = 64 if width >= 512 else 36
    half = 0 if width % 2 else width // 2
    divisors = [n for n in range(1, math.isqrt(half) + 1) if half % n == 0]  # sizing asks for widths of a million too
    counts = sorted({*divisors, *(half // n for n in divisors)})
    return {"n_heads": min(counts, key=lambda n: abs(math.log(width / n / wanted)), default=1)}


register(
    Architecture(
        name="transformer++",
        summary="Transformer with rotary positions, RMSNorm and SwiGLU, no biases (Llama's recipe)",
        citation=(
            "Touvron et al. 2023, LLaMA: Open and Efficient Foundation Language Models; the name is Gu and Dao's "
            "(2023); initialisation as in GPT-2 (Radford et al. 2019)"
        ),
        config=TransformerPPConfig,
        mixer=attention,
        channel_mixer=swiglu,
        scale=Scale(dimensions=rotary_heads),
        tiny={"d_model": 32, "n_layers": 2, "n_heads": 2, "vocab_size": 61},
        letter="A",
    )
)
