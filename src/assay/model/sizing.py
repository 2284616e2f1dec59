"""Finds the dimensions that give an architecture a wanted size, measured on the built model, within one per cent."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from assay.analysis.ranking.contests import MATCH_TOLERANCE
from assay.errors import RequestError
from assay.model.accounting import count_flops, count_parameters, count_state_bytes, without_flops
from assay.model.architecture import Architecture, ModelConfig, assemble
from assay.model.lm import Block, LanguageModel
from assay.model.shapes import Candidate, Line, Shapes
from assay.plugins.blame import blamed
from assay.records import Match

CLOSE = 0.003
"""Among candidates whose size is within this fraction of the target, the most natural shape wins."""
TRIED = 40
"""The number of best candidates that are built and measured, as an expected size can be off."""
TRIED_LAYERS = 1000
"""The number of layers built for one reach, all candidates together, as deep models take long to build."""


@dataclass(frozen=True)
class Decoding:
    """Where FLOPs and state bytes are counted: tokens of context, bytes of an activation."""

    context: int = 256
    bytes_per_element: int = 4


MEASURES: dict[Match, Callable[[LanguageModel, Decoding], int]] = {
    "blocks+head": lambda model, _: count_parameters(model).blocks_and_head or 0,
    "total": lambda model, _: count_parameters(model).total,
    "non-embedding": lambda model, _: count_parameters(model).non_embedding,
    "flops": lambda model, decoding: count_flops(model, decoding.context).forward,
    "state": lambda model, decoding: count_state_bytes(model, decoding.context, decoding.bytes_per_element),
}
BLOCK_MEASURES: dict[Match, Callable[[Block, Decoding], int]] = {
    "blocks+head": lambda block, _: sum(parameter.numel() for parameter in block.parameters()),
    "total": lambda block, _: sum(parameter.numel() for parameter in block.parameters()),
    "non-embedding": lambda block, _: sum(parameter.numel() for parameter in block.parameters()),
    "flops": lambda block, decoding: sum(layer.flops_per_token(decoding.context) for layer in block.layers()),
    "state": lambda block, decoding: sum(
        layer.state_bytes(decoding.context, decoding.bytes_per_element) for layer in block.layers()
    ),
}
"""The size of one block."""
UNITS: dict[Match, str] = {
    "blocks+head": "parameters of blocks and head",
    "total": "parameters",
    "non-embedding": "non-embedding parameters",
    "flops": "forward FLOPs per token",
    "state": "bytes of state",
}


class _Undrawn(TorchFunctionMode):
    """Skips torch.nn.init inside constructors: on the meta device it changes nothing and takes most of the time."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_on_meta(architecture: Architecture, config: ModelConfig) -> LanguageModel:
    """The model on the meta device, without memory for its weights; for counting."""
    with torch.device("meta"), _Undrawn():
        return assemble(architecture, config)


def solve(
    architecture: Architecture, target: int, match: Match, fixed: Mapping[str, Any], decoding: Decoding | None = None
) -> ModelConfig:
    """Return the configuration whose size is within 1% of `target`, of the most natural shape there is.

    `match` says what a size is; FLOPs and state bytes are those at `decoding`. `fixed` holds what is set (vocabulary,
    tying, body, ..., and any dimension): it stays as it is, and the other dimensions are solved around it. A target
    that cannot be met so is a RequestError with the nearest size that can be had.
    """
    decoding = decoding or Decoding()
    shapes = Shapes(architecture, match, fixed, _line(architecture, match, decoding))
    nearest: int | None = None
    seen: set[tuple[int, int, int]] = set()
    for reach in shapes.reaches():
        for candidate in _best(shapes.candidates(target, reach), target):
            shape = (candidate.width, candidate.n_layers, candidate.fine)
            config = None if shape in seen else shapes.config(*shape)
            seen.add(shape)
            if config is None:
                continue
            model = build_on_meta(architecture, config)
            if match == "flops":
                refuse_without_flops(architecture, model)
            size = MEASURES[match](model, decoding)
            if abs(size / target - 1) <= MATCH_TOLERANCE:
                return config
            if nearest is None or abs(size - target) < abs(nearest - target):
                nearest = size
    raise _refusal(shapes, target, match, nearest)


def refuse_without_flops(architecture: Architecture, model: LanguageModel) -> None:
    """Raise a RequestError where FLOPs cannot be matched, as a layer does not declare what its state costs."""
    layers = without_flops(model)
    if layers:
        raise RequestError(
            f"--match flops: {architecture.name}: {', '.join(layers)} keeps a state and declares no FLOPs of its own; "
            "a method flops_per_token(self, context) in the layer, or --match total, would do"
        )


def refuse_chosen(architecture: Architecture, size: int, match: Match, fixed: Mapping[str, Any]) -> None:
    """Raise a RequestError where `fixed` holds a dimension that a size alone decides."""
    chosen = Shapes(architecture, match, fixed, _line(architecture, match, Decoding())).chosen
    for name in chosen:
        if name in fixed:
            raise RequestError(f"--size {size}: chooses {name} itself, which is set to {fixed[name]!r}; give only one")


def _line(architecture: Architecture, match: Match, decoding: Decoding) -> Line:
    """The function `Line` for this measure, for models of two blocks."""

    def line(config: ModelConfig) -> tuple[float, float]:
        try:
            model = build_on_meta(architecture, config)
        except (ValueError, AssertionError) as error:  # a layer that does not take this width, say
            raise RequestError(blamed(error) or f"{architecture.name}: {error}") from error
        size, layer = float(MEASURES[match](model, decoding)), 0.0
        if architecture.scale.depth is not None:
            layer = float(BLOCK_MEASURES[match](model.sequence_blocks()[-1], decoding))
        return size - 2 * layer, layer

    return line


def _best(candidates: Iterable[Candidate], target: int) -> Iterator[Candidate]:
    """The candidates to build, the best first, within TRIED and TRIED_LAYERS."""
    layers = 0
    for candidate in sorted(candidates, key=lambda c: _order(c, target))[:TRIED]:
        if layers < TRIED_LAYERS:
            yield candidate
        layers += candidate.n_layers


def _order(candidate: Candidate, target: int) -> tuple[bool, float]:
    """Sort key: candidates close to the target first, by naturalness; the others after them, by distance from it."""
    distance = abs(candidate.size / target - 1)
    return distance > CLOSE, candidate.strangeness if distance <= CLOSE else distance


def _refusal(shapes: Shapes, target: int, match: Match, nearest: int | None) -> RequestError:
    """The error: the target, what is fixed and the nearest size; where no shape fits together, why."""
    fixed = ", ".join(f"{name}={shapes.fixed[name]!r}" for name in shapes.chosen if name in shapes.fixed)
    if nearest is None and shapes.refusal is not None:
        return RequestError(f"--size {target:,} with {fixed}: {shapes.refusal}") if fixed else shapes.refusal
    words = f"--size {target:,}: no {shapes.architecture.name} within 1% of that ({match}: {UNITS[match]})"
    there_is = "" if nearest is None else f"; the nearest that can be had is {nearest:,}"
    if not fixed:
        return RequestError(words + there_is)
    return RequestError(f"{words} with {fixed}{there_is}; that size or fewer fixed dimensions would do")
