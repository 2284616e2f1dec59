"""The GroundThink v7 hybrid exactly as document 001, a research note, ran it: its leaks show what an audit finds."""

from pydantic import Field, model_validator

from assay.layers.basic import RMSNorm
from assay.layers.groundthink.leaking import MemoryLayerV7, ReaderLayerV7
from assay.layers.mixer import SequenceLayer
from assay.model.architecture import Architecture, Fine, Scale, register
from assay.model.presets.groundthink import HybridConfig, ffn, ffn_width, heads_of


class GroundThinkV7Config(HybridConfig):
    """The dimensions of document 001, with 17,583,212 parameters at GPT-2's vocabulary of 50257."""

    vocab_size: int = Field(50257, ge=2)

    @model_validator(mode="after")
    def _projections_are_square(self) -> "GroundThinkV7Config":
        if "S" in self.pattern and self.n_heads * self.head_dim != self.d_model:
            raise ValueError(
                f"model.d_model: {self.d_model} given, the S layer's projections are square: "
                f"n_heads * head_dim ({self.n_heads * self.head_dim}) would do"
            )
        if len(self.marker_ids) > self.head_dim:
            raise ValueError(
                f"model.marker_ids: {len(self.marker_ids)} given, the key bank has head_dim ({self.head_dim}) keys"
            )
        return self


def _mixer(config: GroundThinkV7Config, layer: int) -> SequenceLayer:
    if config.pattern[layer] == "G":
        return MemoryLayerV7(
            config.d_model,
            config.n_heads,
            config.head_dim,
            config.marker_ids,
            shifted_value=config.shifted_value,
            beta_floor=config.beta_floor,
            beta_bias=config.beta_bias,
            gate_bias=config.gate_bias,
        )
    return ReaderLayerV7(
        config.d_model,
        config.n_heads,
        window=config.window,
        shared_key=config.shared_key,
        local_scale=config.local_scale,
        local_drop=config.local_drop,
        gate_bias=config.retrieval_gate_bias,
        rope=config.rope,
        dropout=config.dropout,
    )


register(
    Architecture(
        name="groundthink-v7",
        summary="The GroundThink v7 hybrid as it was run: its layers read states that have seen later tokens",
        citation="document 001, a research note: the GroundThink v7 scaling experiment (TransparentHybrid)",
        config=GroundThinkV7Config,
        mixer=_mixer,
        channel_mixer=ffn,
        embedding_norm=RMSNorm,
        published_head="tied",
        scale=Scale(
            width_step=16,
            depth=None,
            fine_default=ffn_width,
            dimensions=heads_of,
            state_fine=Fine("window", 1, lambda _: 64),
        ),
        tiny={"pattern": "GGS", "d_model": 32, "n_heads": 2, "head_dim": 16, "window": 8, "vocab_size": 61},
        unsound=(
            "every position of an S layer reads the G layer's state after the whole sequence, and each further G layer "
            "starts from the final state of the G layer before it: position t has seen tokens after t"
        ),
        sound_twin="groundthink",
    )
)
