"""What an architecture is: a named recipe of layers, norms, positions and initialisation, and how to build it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator
from torch import nn

from assay.config import Config
from assay.layers.basic import RMSNorm, SwiGLU
from assay.layers.mixer import Layer, SequenceLayer
from assay.model.initialisation import Initialisation, initialise
from assay.model.lm import Block, Draw, Embedding, LanguageModel
from assay.model.proportions import swiglu_width, transformer_depth
from assay.registry import Registry


class ModelConfig(Config):
    """The dimensions all architectures share. A family's own class adds its own and gives the published defaults."""

    section: ClassVar[str] = "model"
    flags: ClassVar[Mapping[str, str]] = {"body": "--body", "initialisation": "--init"}

    vocab_size: int = Field(4096, ge=2)
    d_model: int = Field(512, ge=1)
    n_layers: int = Field(8, ge=1)
    d_ff: int | None = Field(None, ge=1)
    """Width of the channel mixer; None is the architecture's own ratio."""
    tied_embeddings: bool = True
    body: Literal["native", "common"] = "native"
    """`common`: RMSNorm and SwiGLU for every architecture, only the mixer (and its positions) differs."""
    initialisation: Initialisation = "own"
    dropout: float = Field(0.0, ge=0, lt=1)
    """In training: after the embedding, on what each layer adds to the stream, on attention weights."""


class AttentionHeads(ModelConfig):
    """Adds heads, which must divide the width."""

    n_heads: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "AttentionHeads":
        if self.d_model % self.n_heads:
            multiple = max(1, self.d_model // self.n_heads) * self.n_heads
            raise ValueError(
                f"model.d_model: {self.d_model} given, not a multiple of n_heads ({self.n_heads}); {multiple} would do"
            )
        return self


def normal(std: float) -> Draw:
    """Return a draw that fills a tensor from N(0, std^2)."""
    return lambda tensor, generator: nn.init.normal_(tensor, 0.0, std, generator=generator)


def uniform(bound: float) -> Draw:
    """Return a draw that fills a tensor uniformly within +-bound."""
    return lambda tensor, generator: nn.init.uniform_(tensor, -bound, bound, generator=generator)


class Fine(NamedTuple):
    """The dimension that sizing chooses last, to hit the target: its name, its step and its usual value at a width."""

    name: str
    step: int
    default: Callable[[int], int]


@dataclass(frozen=True)
class Scale:
    """How sizing chooses an architecture's dimensions: first width and depth, then one fine dimension.

    Widths are multiples of `width_step`. `dimensions(width)` gives the dimensions that follow from a width (number and
    width of heads). `depth(width)` is the published proportion; it is None where a pattern sets the depth. `fine` names
    the dimension that is chosen last, in steps of `fine_step`, starting from `fine_default(width)`.
    """

    width_step: int = 8
    depth: Callable[[int], float] | None = transformer_depth
    fine: str = "d_ff"
    fine_step: int = 4
    fine_default: Callable[[int], int] = swiglu_width
    dimensions: Callable[[int], dict[str, Any]] = lambda _: {}
    state_fine: Fine | None = None
    """The fine dimension when state bytes are matched, for architectures whose `fine` does not change them."""

    def natural_depth(self, width: int) -> float:
        """The published proportion, at least one layer; 1 where the depth is not free."""
        return 1.0 if self.depth is None else max(1.0, self.depth(width))


def swiglu(config: ModelConfig, _: int) -> SequenceLayer:
    """The channel mixer of the common body, and of every architecture that names no other."""
    return SwiGLU(config.d_model, config.d_ff or swiglu_width(config.d_model))


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A named recipe: how to make each part of a model from a configuration.

    `mixer` and `channel_mixer` take (configuration, index of the block); the norms take d_model; a draw fills a tensor
    with initial values.
    """

    name: str
    summary: str
    citation: str
    mixer: Callable[[Any, int], SequenceLayer]
    channel_mixer: Callable[[Any, int], SequenceLayer | None] = swiglu
    config: type[ModelConfig] = ModelConfig
    scale: Scale = Scale()
    tiny: Mapping[str, Any] = field(default_factory=lambda: {"d_model": 32, "n_layers": 2, "vocab_size": 61})
    """Overrides that make the smallest model for contract tests: d_model 32, 2 layers, vocabulary 61."""
    norm: Callable[[int], Layer] = RMSNorm
    embedding_norm: Callable[[int], Layer] | None = None
    max_positions: Callable[[Any], int | None] = lambda _: None
    embedding_draw: Draw = field(default_factory=lambda: normal(0.02))
    position_draw: Draw | None = None
    """How learned positions are drawn; None means as the embedding."""
    head_draw: Draw = field(default_factory=lambda: normal(0.02))
    letter: str | None = None
    """The letter that stands for its mixer in the pattern of a hybrid."""
    unsound: str | None = None
    """For an architecture that leaks: why its losses mean nothing. Shown wherever it is listed."""
    sound_twin: str | None = None
    """The name of the architecture that does the same without the leak."""


ARCHITECTURES: Registry[Architecture] = Registry("architecture", "assay.model.presets")


def register(architecture: Architecture) -> Architecture:
    """Make `architecture` known under its name to every verb."""
    return ARCHITECTURES.register(architecture.name, architecture)


def assemble(architecture: Architecture, config: ModelConfig) -> LanguageModel:
    """Put the parts together on torch's current device; parameters are allocated, not drawn."""
    common = config.body == "common"
    norm = RMSNorm if common else architecture.norm
    blocks = []
    for index in range(config.n_layers):
        mixer = architecture.mixer(config, index)
        channel = swiglu(config, index) if common else architecture.channel_mixer(config, index)
        blocks.append(Block(mixer, channel, lambda: norm(config.d_model), config.dropout))
    embedding_norm = None
    if architecture.embedding_norm is not None and not common:
        embedding_norm = architecture.embedding_norm(config.d_model)
    embedding = Embedding(
        config.vocab_size,
        config.d_model,
        architecture.max_positions(config),
        embedding_norm,
        architecture.embedding_draw,
        architecture.position_draw,
        config.dropout,
    )
    return LanguageModel(
        embedding, blocks, norm(config.d_model), None if config.tied_embeddings else architecture.head_draw
    )


def build_model(architecture: Architecture, config: ModelConfig, seed: int, replicate: int = 0) -> LanguageModel:
    """Assemble and initialise on the CPU: the same weights for a seed whatever device the model goes to.

    `seed` is the run's seed. Each part is drawn from its own generator, so parts that two configurations share get the
    same weights. Another `replicate` gives other weights for the same seed, with `body=common` those of the mixers
    alone: see assay.model.initialisation.
    """
    model = assemble(architecture, config)
    initialise(model, config.initialisation, seed, replicate, mixers_only=config.body == "common")
    return model
