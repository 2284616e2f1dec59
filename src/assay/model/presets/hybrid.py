"""Hybrids by block pattern: the mixer of any registered architecture in any block, in one body."""

import re
from typing import Any

from pydantic import Field, model_validator

from assay.errors import RequestError
from assay.layers.mixer import SequenceLayer
from assay.model.architecture import ARCHITECTURES, Architecture, Fine, ModelConfig, Scale, register
from assay.model.presets.delta_net import key_width

ALIASES = {"attention": "transformer++"}


class HybridConfig(ModelConfig):
    """Which mixer each block has; the number of layers is the pattern's."""

    pattern: str | list[str] = "GGGAGGGA"
    """Letters ("GGGGGS"), or names with counts ([mamba2 x 5, attention]). The default has three gated DeltaNets (G) to
    one attention (A), as Qwen3-Next.
    """
    n_layers: int = Field(8, ge=1)
    value_dim: int | None = Field(None, ge=1)
    """Width of a head's values in every mixer that has such a dimension; sizing sets it to match state bytes."""
    mixers: dict[str, dict[str, Any]] = {}
    """Dimensions of one architecture's mixers, by its name: {mamba2: {d_state: 32}}."""

    @model_validator(mode="before")
    @classmethod
    def _depth_of_the_pattern(cls, values: dict[str, Any]) -> dict[str, Any]:
        pattern = _as_text(values.get("pattern", cls.model_fields["pattern"].default))
        names = read_pattern(pattern)
        given = values.get("n_layers", len(names))
        if given != len(names):
            raise ValueError(
                f"model.n_layers: {given!r} given, the pattern {pattern!r} has {len(names)} blocks; leave n_layers out"
            )
        return {**values, "pattern": pattern, "n_layers": len(names)}

    @model_validator(mode="after")
    def _mixers_are_there(self) -> "HybridConfig":
        names = set(self.names())
        for name in self.mixers:
            if name not in names:
                raise ValueError(f"model.mixers: {name} given, the pattern has {', '.join(sorted(names))}")
        parsed = [self.of(name) for name in names]
        if self.value_dim is not None and not any("value_dim" in type(config).model_fields for config in parsed):
            raise ValueError(f"model.value_dim: {self.value_dim} given, no mixer of {self.pattern!r} has one")
        return self

    def names(self) -> list[str]:
        """For each block, the name of the architecture that its mixer comes from."""
        return read_pattern(self.pattern)

    def of(self, name: str) -> ModelConfig:
        """The configuration of the mixers of architecture `name`: its proportions at this width, then `mixers`."""
        architecture = ARCHITECTURES.get(name)
        scale = architecture.scale
        natural = scale.dimensions(self.d_model)
        if scale.fine != "d_ff":
            natural[scale.fine] = scale.fine_default(self.d_model)
        if self.value_dim is not None and "value_dim" in architecture.config.model_fields:
            natural["value_dim"] = self.value_dim
        own = self.mixers.get(name, {})
        for key in own:
            if key in ModelConfig.model_fields or key not in architecture.config.model_fields:
                raise RequestError(f"model.mixers.{name}.{key}: no dimension of the mixers of {name}")
        shared = {key: getattr(self, key) for key in ("vocab_size", "d_model", "n_layers", "dropout")}
        return architecture.config.parse({**natural, **own, **shared})


def _as_text(pattern: Any) -> str | list[str]:
    """The pattern as text: YAML reads RWKV-7's letter as a number, so 777 becomes "777", alone and in a list."""
    if isinstance(pattern, list | tuple):
        return [str(part) for part in pattern]
    if isinstance(pattern, str) or type(pattern) is int:
        return str(pattern)
    raise RequestError(
        f"model.pattern: {pattern!r} given, letters (GGGA) or a list of names is needed; letters that YAML takes "
        "for something else want quotes, as in '\"7777\"'"
    )


def read_pattern(pattern: str | list[str]) -> list[str]:
    """The names of architectures, one per block; a RequestError where a letter or a name is unknown."""
    if isinstance(pattern, str):
        listed = re.fullmatch(r"\s*\[(.*)\]\s*", pattern)
        words = listed or re.search(r"[,\s]", pattern) or pattern in {*ALIASES, *ARCHITECTURES.names()}
        inside = listed[1] if listed else pattern
        parts = inside.split(",") if words and inside.strip() else list(inside.strip())
    else:
        parts = [str(part) for part in pattern]
    if not parts:
        raise RequestError("model.pattern: empty; letters (GGGA) or names (mamba2 x 5, attention) are needed")
    names = []
    for part in parts:
        counted = re.fullmatch(r"\s*(.*?)(?:\s+x\s*([1-9][0-9]{0,3}))?\s*", part)
        assert counted is not None
        names += [_architecture(counted[1])] * int(counted[2] or 1)
    return names


def _architecture(word: str) -> str:
    """The name of the architecture that a letter, an alias or a name stands for."""
    letters = {item.letter: item.name for item in ARCHITECTURES if item.letter is not None}
    name = letters.get(word) or ALIASES.get(word) or word
    if len(name) <= 1:
        known = ", ".join(f"{letter} ({of})" for letter, of in sorted(letters.items()))
        raise RequestError(f"model.pattern: no mixer has the letter {word!r}; there is {known}")
    architecture = ARCHITECTURES.get(name)
    if architecture.scale.depth is None:
        raise RequestError(f"model.pattern: {name} is a pattern itself; its layers stand in no other")
    return name


def _mixer(config: HybridConfig, index: int) -> SequenceLayer:
    """The mixer of block `index`. The first of each architecture is built as layer 0: RWKV-7's must publish values."""
    names = config.names()
    name = names[index]
    return ARCHITECTURES.get(name).mixer(config.of(name), 0 if name not in names[:index] else index)


register(
    Architecture(
        name="hybrid",
        summary="Any registered mixers by block pattern, as GGGA or [mamba2 x 5, attention]",
        citation="Lieber et al. 2024, Jamba; Yang et al. 2024, Gated Delta Networks, section 3.4",
        config=HybridConfig,
        mixer=_mixer,
        scale=Scale(width_step=16, depth=None, state_fine=Fine("value_dim", 1, lambda width: 2 * key_width(width))),
        tiny={
            "d_model": 32,
            "pattern": "MA",
            "vocab_size": 61,
            "mixers": {"mamba2": {"d_state": 16, "head_dim": 16}},
        },
    )
)
