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
from assay.model.lm import Block, Draw, Embedding, LanguageModel, UndecayedEmbedding
from assay.model.proportions import swiglu_width, transformer_depth
from assay.registry import Registry

LARGEST = 10**8
"""The largest whole number among dimensions: beyond, the bytes of a matrix overflow."""
MOST_LAYERS = 10_000
Heads = Literal["published", "tied", "untied"]


class ModelConfig(Config):
    """The dimensions all architectures share. A family's own class adds its own and gives the published defaults."""

    section: ClassVar[str] = "model"
    flags: ClassVar[Mapping[str, str]] = {"body": "--body", "initialisation": "--init", "heads": "--heads"}

    vocab_size: int = Field(4096, ge=2)
    d_model: int = Field(512, ge=1)
    n_layers: int = Field(8, ge=1)
    d_ff: int | None = Field(None, ge=1)
    """Width of the channel mixer; None is the architecture's own ratio."""
    heads: Heads = "untied"
    """Whether the head is the token table: `tied`, `untied`, or `published`, as the architecture's authors have it."""
    body: Literal["native", "common"] = "native"
    """`common`: the same tables, norms, SwiGLU and head for every architecture; only the mixer (and learned positions)
    differs.
    """
    initialisation: Initialisation = "own"
    dropout: float = Field(0.0, ge=0, lt=1)
    """In training: after the embedding, on what each layer adds to the stream, on attention weights. The default of a
    common body is 0, whatever the architecture's own.
    """

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, values: Any) -> Any:
        """Read the key that `heads` replaced; a common body has no dropout of the architecture's own."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if "tied_embeddings" in values:
            tied = heads_of_old(values.pop("tied_embeddings"))
            values.setdefault("heads", tied)
        if values.get("body") == "common":
            values.setdefault("dropout", 0.0)
        return values

    @model_validator(mode="after")
    def _within_reason(self) -> "ModelConfig":
        """Of the dimensions of a family's own too."""
        for name, value in self:
            most = MOST_LAYERS if name == "n_layers" else LARGEST
            if isinstance(value, int) and value > most:
                raise ValueError(f"model.{name}: {value} given, at most {most:,} would do")
        return self


def heads_of_old(tied: Any) -> Heads:
    """What `tied_embeddings`, a boolean, is called now; anything else is a ValueError."""
    if type(tied) is not bool:
        raise ValueError(f"model.tied_embeddings: {tied!r} given, true or false would do; it is called heads now")
    return "tied" if tied else "untied"


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


TABLE_STD = 0.02
"""Of the draws of token table and head in a common body, and of a table that is the head though the authors' is not.

The stream that a head reads has been normalised, so logits begin with about this times sqrt(d_model), 0.2 to 0.7 at
widths of 100 to 1,200: near the uniform distribution, and with gradients that reach the blocks. A table that was drawn
beside a head of its own may do neither: with RWKV's +-1e-4 the logits begin at 0.001.
"""


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
    embedding_draw: Draw = field(default_factory=lambda: normal(TABLE_STD))
    position_draw: Draw | None = None
    """How learned positions are drawn; None means as the embedding."""
    embedding_decay: bool = True
    """Whether the authors apply weight decay to the token table."""
    published_head: Literal["tied", "untied"] = "untied"
    """Whether the authors' head is the token table."""
    head_draw: Draw = field(default_factory=lambda: normal(TABLE_STD))
    """How a head of its own is drawn."""
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


def is_tied(architecture: Architecture, config: ModelConfig) -> bool:
    """Whether the head of this model is its token table."""
    return config.heads == "tied" or (config.heads == "published" and architecture.published_head == "tied")


def assemble(architecture: Architecture, config: ModelConfig) -> LanguageModel:
    """Put the parts together on torch's current device; parameters are allocated, not drawn."""
    common = config.body == "common"
    norm = RMSNorm if common else architecture.norm
    blocks = []
    for index in range(config.n_layers):
        mixer = architecture.mixer(config, index)
        channel = swiglu(config, index) if common else architecture.channel_mixer(config, index)
        blocks.append(Block(mixer, channel, lambda: norm(config.d_model), config.dropout))
    head_draw = normal(TABLE_STD) if common else architecture.head_draw
    return LanguageModel(
        _embedding(architecture, config),
        blocks,
        norm(config.d_model),
        None if is_tied(architecture, config) else head_draw,
    )


def _embedding(architecture: Architecture, config: ModelConfig) -> Embedding:
    """The tables: the architecture's own, or with a common body those of all."""
    common = config.body == "common"
    for_its_own_head = is_tied(architecture, config) and architecture.published_head == "untied"
    make = Embedding if common or architecture.embedding_decay else UndecayedEmbedding
    norm = None
    if architecture.embedding_norm is not None and not common:
        norm = architecture.embedding_norm(config.d_model)
    return make(
        config.vocab_size,
        config.d_model,
        architecture.max_positions(config),
        norm,
        normal(TABLE_STD) if common or for_its_own_head else architecture.embedding_draw,
        architecture.position_draw or (None if common else architecture.embedding_draw),
        config.dropout,
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
