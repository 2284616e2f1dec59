"""The GroundThink hybrid made causal: G layers write a delta-rule memory, S layers read it, in the order of a pattern.

The hybrid, with leaks, is that of document 001, a research note on its scaling (groundthink_v7.py is as it was run).
"""

from typing import Any

from pydantic import Field, field_validator, model_validator

from assay.layers.basic import RMSNorm, SwiGLU
from assay.layers.groundthink.reader import ReaderLayer
from assay.layers.groundthink.writer import Markers, MemoryLayer
from assay.layers.mixer import SequenceLayer
from assay.model.architecture import Architecture, Fine, ModelConfig, Scale, register
from assay.model.proportions import n_heads_of
from assay.ops.delta_rule import ErrorTaken


class HybridConfig(ModelConfig):
    """The options of both the causal form and the replica; defaults as in document 001. d_ff None is `ffn_width`."""

    pattern: str = "GGGGGS"
    """One letter per layer: G writes a memory, S reads that of the last G before it."""
    n_layers: int = Field(6, ge=1)
    d_model: int = Field(256, ge=1)
    n_heads: int = Field(4, ge=1)
    head_dim: int = Field(64, ge=1)
    """Width of a head's keys and of its values."""
    shifted_value: bool = True
    """A token's value is written under the key of the token before it."""
    shared_key: bool = True
    """Whether S makes its queries with G's key projection; otherwise it has a projection of its own."""
    beta_floor: float = Field(1.0, ge=0, le=1)
    """Multiplies beta on tokens that are no markers."""
    beta_bias: float = 0.0
    gate_bias: float = 2.0
    """Initial bias of G's gate, whose sigmoid is the decay."""
    retrieval_gate_bias: float = 1.0
    marker_ids: tuple[int, ...] = ()
    """Token ids of the markers."""
    window: int = Field(64, ge=1)
    rope: bool = False
    local_scale: float = 0.3
    local_drop: float = Field(0.7, ge=0, lt=1)
    """The probability that a sequence loses its local attention in training."""

    @model_validator(mode="before")
    @classmethod
    def _depth_of_the_pattern(cls, values: dict[str, Any]) -> dict[str, Any]:
        pattern = values.get("pattern", cls.model_fields["pattern"].default)
        if not isinstance(pattern, str) or not pattern:
            return values
        given = values.get("n_layers", len(pattern))
        if given != len(pattern):
            raise ValueError(
                f"model.n_layers: {given!r} given, the pattern {pattern!r} has {len(pattern)}; leave n_layers out"
            )
        return {**values, "n_layers": len(pattern)}

    @field_validator("pattern")
    @classmethod
    def _starts_with_a_memory(cls, pattern: str) -> str:
        if not pattern or set(pattern) - {"G", "S"}:
            raise ValueError("a pattern is made of the letters G and S, as in 'GSGS'")
        if pattern[0] == "S":
            raise ValueError("the first S has no G before it to read; start with G, as in 'GS'")
        return pattern

    @model_validator(mode="after")
    def _fits_together(self) -> "HybridConfig":
        ids = self.marker_ids
        wrong = [i for i in ids if not 0 <= i < self.vocab_size or ids.count(i) > 1]
        if wrong:
            raise ValueError(
                f"model.marker_ids: {wrong[0]} given, distinct ids under vocab_size ({self.vocab_size}) would do"
            )
        if self.rope and self.head_dim % 2:
            raise ValueError(f"model.head_dim: {self.head_dim} given, rope needs an even one")
        return self


class GroundThinkConfig(HybridConfig):
    """The causal form's own options."""

    key_bank: bool = False
    """Markers have fixed orthogonal keys instead of projected ones."""
    error: ErrorTaken = "after"
    """Whether a write corrects the memory after its decay, as published, or before it, as in document 001."""

    @model_validator(mode="after")
    def _bank_has_room(self) -> "GroundThinkConfig":
        if self.key_bank and not 0 < len(self.marker_ids) <= self.head_dim:
            raise ValueError(
                f"model.key_bank: {len(self.marker_ids)} marker_ids given, it needs 1 to head_dim ({self.head_dim})"
            )
        return self


def ffn_width(d_model: int) -> int:
    """The width of SwiGLU in document 001: floor(8/3 d_model), rounded up to a multiple of 64."""
    return -(-(8 * d_model // 3) // 64) * 64


def ffn(config: HybridConfig, _: int) -> SequenceLayer:
    """SwiGLU of width `d_ff`, or of `ffn_width` where the configuration sets none."""
    return SwiGLU(config.d_model, config.d_ff or ffn_width(config.d_model))


def heads_of(d_model: int) -> dict[str, int]:
    """Number and width of heads that together are as wide as the model."""
    n_heads = n_heads_of(d_model)
    return {"n_heads": n_heads, "head_dim": d_model // n_heads}


def _mixer(config: GroundThinkConfig, layer: int) -> SequenceLayer:
    dimensions = (config.d_model, config.n_heads, config.head_dim)
    if config.pattern[layer] == "G":
        return MemoryLayer(
            *dimensions,
            Markers(config.marker_ids, config.head_dim, config.key_bank),
            shifted_value=config.shifted_value,
            beta_floor=config.beta_floor,
            beta_bias=config.beta_bias,
            gate_bias=config.gate_bias,
            error=config.error,
        )
    return ReaderLayer(
        *dimensions,
        window=config.window,
        shared_key=config.shared_key,
        local_scale=config.local_scale,
        local_drop=config.local_drop,
        gate_bias=config.retrieval_gate_bias,
        rope=config.rope,
        dropout=config.dropout,
        error=config.error,
    )


register(
    Architecture(
        name="groundthink",
        summary="Delta-rule memory layers, and window-attention layers that read them (GroundThink, made causal)",
        citation="Yang et al. 2024, Gated Delta Networks; the GroundThink hybrid (document 001), made causal",
        config=GroundThinkConfig,
        mixer=_mixer,
        channel_mixer=ffn,
        embedding_norm=RMSNorm,
        published_head="tied",
        scale=Scale(
            width_step=16,
            depth=None,
            fine_default=ffn_width,
            dimensions=heads_of,
            state_fine=Fine("head_dim", 2, lambda width: heads_of(width)["head_dim"]),
        ),
        tiny={"pattern": "GS", "d_model": 32, "n_heads": 2, "head_dim": 16, "window": 8, "vocab_size": 61},
    )
)
