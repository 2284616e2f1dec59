"""Finds the dimensions that give an architecture a wanted size, measured on the built model, within one per cent."""

import bisect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from assay.errors import RequestError
from assay.model.accounting import count_flops, count_parameters, count_state_bytes
from assay.model.architecture import Architecture, Fine, ModelConfig, assemble
from assay.model.lm import Block, LanguageModel
from assay.model.proportions import swiglu_width
from assay.records import Match

TOLERANCE = 0.01
CLOSE = 0.003
"""Among sizes this close to the target the most natural shape wins."""
TRIED = 40
"""So many of the best candidates are built; they miss only where a size is not the sum that they assume."""
MAX_WIDTH = 1 << 20
WIDTHS = 64


@dataclass(frozen=True)
class Decoding:
    """Where FLOPs and state bytes are counted: tokens of context, bytes of an activation."""

    context: int = 256
    bytes_per_element: int = 4


MEASURES: dict[Match, Callable[[LanguageModel, Decoding], int]] = {
    "total": lambda model, _: count_parameters(model).total,
    "non-embedding": lambda model, _: count_parameters(model).non_embedding,
    "flops": lambda model, decoding: count_flops(model, decoding.context).forward,
    "state": lambda model, decoding: count_state_bytes(model, decoding.context, decoding.bytes_per_element),
}
BLOCK_MEASURES: dict[Match, Callable[[Block, Decoding], int]] = {
    "total": lambda block, _: sum(parameter.numel() for parameter in block.parameters()),
    "non-embedding": lambda block, _: sum(parameter.numel() for parameter in block.parameters()),
    "flops": lambda block, decoding: sum(layer.flops_per_token(decoding.context) for layer in block.layers()),
    "state": lambda block, decoding: sum(
        layer.state_bytes(decoding.context, decoding.bytes_per_element) for layer in block.layers()
    ),
}
"""What one more block adds."""
UNITS: dict[Match, str] = {
    "total": "parameters",
    "non-embedding": "non-embedding parameters",
    "flops": "forward FLOPs per token",
    "state": "bytes of state",
}


class Candidate(NamedTuple):
    """A shape that was considered, its expected size and how far it is from the natural shape."""

    width: int
    n_layers: int
    fine: int
    size: float
    strangeness: float


class _Undrawn(TorchFunctionMode):
    """Passes over what torch's own modules draw when they are made; that takes most of the time on no memory."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_on_meta(architecture: Architecture, config: ModelConfig) -> LanguageModel:
    """The model without memory behind it, for counting."""
    with torch.device("meta"), _Undrawn():
        return assemble(architecture, config)


def solve(
    architecture: Architecture, target: int, match: Match, fixed: Mapping[str, Any], decoding: Decoding | None = None
) -> ModelConfig:
    """Return the configuration whose size is within 1% of `target`, of the most natural shape there is.

    `match` says what a size is; FLOPs and state bytes are those at `decoding`. `fixed` holds the dimensions the study
    sets (vocabulary, tying, body, ...); one that the solver would choose itself is a RequestError, and so is a target
    that cannot be met, with the nearest size that can be had.
    """
    search = _Search(architecture, match, fixed, decoding or Decoding())
    for name in sorted(search.free & set(fixed)):
        raise RequestError(f"--size {target}: chooses {name} itself, which is set to {fixed[name]!r}; give only one")
    nearest: int | None = None
    for step, spread in ((architecture.scale.width_step, 1.5), (2, 3.0), (1, 3.0)):
        candidates = sorted(search.candidates(target, step, spread), key=lambda c: _order(c, target))
        for candidate in islice(candidates, TRIED):
            config = search.config(candidate.width, candidate.n_layers, candidate.fine)
            size = search.size(config)
            if abs(size / target - 1) <= TOLERANCE:
                return config
            if nearest is None or abs(size - target) < abs(nearest - target):
                nearest = size
    there_is = "" if nearest is None else f"; the nearest that can be had is {nearest:,}"
    raise RequestError(
        f"--size {target:,}: no {architecture.name} within 1% of that ({match}: {UNITS[match]}){there_is}"
    )


def _order(candidate: Candidate, target: int) -> tuple[bool, float]:
    """Those close to the target first, by shape; then by distance."""
    distance = abs(candidate.size / target - 1)
    return distance > CLOSE, candidate.strangeness if distance <= CLOSE else distance


class _Search:
    """The sizes of one architecture over width, depth and its fine dimension."""

    def __init__(self, architecture: Architecture, match: Match, fixed: Mapping[str, Any], decoding: Decoding) -> None:
        self.architecture = architecture
        self.match = match
        self.fixed = fixed
        self.decoding = decoding
        scale = architecture.scale
        native = Fine(scale.fine, scale.fine_step, scale.fine_default)
        self.fine = native
        if match == "state" and scale.state_fine is not None and self._takes(scale.state_fine):
            self.fine = scale.state_fine
        elif fixed.get("body") == "common" and (match != "state" or scale.fine == "d_ff"):
            self.fine = Fine("d_ff", 4, swiglu_width)
        self.fine_matters = True
        self.lines: dict[tuple[int, int], tuple[float, float]] = {}
        self.free = {"d_model", self.fine.name, *scale.dimensions(64)} | ({"n_layers"} if scale.depth else set())

    def _takes(self, fine: Fine) -> bool:
        """Whether the architecture has this dimension with what is fixed: a hybrid has that of its mixers."""
        width = 16 * self.architecture.scale.width_step
        values = {**self.architecture.scale.dimensions(width), **self.fixed, "d_model": width}
        try:
            self.architecture.config.parse({**values, fine.name: fine.default(width)})
        except RequestError:
            return False
        return True

    def config(self, width: int, n_layers: int, fine: int) -> ModelConfig:
        chosen = {"d_model": width, self.fine.name: fine}
        if self.architecture.scale.depth is not None:
            chosen["n_layers"] = n_layers
        return self.architecture.config.parse({**self.architecture.scale.dimensions(width), **self.fixed, **chosen})

    def size(self, config: ModelConfig) -> int:
        return MEASURES[self.match](build_on_meta(self.architecture, config), self.decoding)

    def candidates(self, target: int, step: int, spread: float) -> Iterator[Candidate]:
        """Candidates of every depth up to twice the natural one, at widths around the one that is naturally right."""
        scale = self.architecture.scale
        for width in self._widths(target, step, spread):
            default = self.fine.default(width)
            try:
                base, layer, fine, layer_fine = self._plane(width, default)
            except RequestError:  # a width at which the other dimensions do not fit together
                continue
            natural = scale.natural_depth(width)
            for n_layers in range(1, 2 if scale.depth is None else math.ceil(2 * natural) + 1):
                size, slope = base + n_layers * layer, fine + n_layers * layer_fine
                value = self._solve_fine(default, (target - size) / slope) if slope else default
                strangeness = abs(math.log(n_layers / natural)) + abs(math.log(value / default))
                yield Candidate(width, n_layers, value, size + slope * (value - default), strangeness)

    def _widths(self, target: int, step: int, spread: float) -> Sequence[int]:
        """At most 64 multiples of `step`, up to a factor of `spread` from the width whose natural depth is right.

        That one is found by bisection. With a spread of 1.5 a depth within a factor of two makes up for the width.
        """
        coarse = self.architecture.scale.width_step

        def natural_size(index: int) -> int:
            width = (index + 1) * coarse
            base, layer = self._line(width, self.fine.default(width))
            return round(base + self.architecture.scale.natural_depth(width) * layer)

        middle = (bisect.bisect_left(range(MAX_WIDTH // coarse), target, key=natural_size) + 1) * coarse // step
        low, high = max(1, int(middle / spread)), int(middle * spread) + 1
        return range(low * step, (high + 1) * step, step * max(1, (high - low) // WIDTHS))

    def _plane(self, width: int, fine: int) -> tuple[float, float, float, float]:
        """Coefficients of the size as base + n * layer + (fine - default) * (slope + n * layer_slope).

        All blocks of an architecture are alike, but for the first, and widths enter once each, so two small builds
        tell all.
        """
        base, layer = self._line(width, fine)
        if not self.fine_matters:
            return base, layer, 0.0, 0.0
        base_up, layer_up = self._line(width, fine + self.fine.step)
        self.fine_matters = (base_up, layer_up) != (base, layer)
        return base, layer, (base_up - base) / self.fine.step, (layer_up - layer) / self.fine.step

    def _line(self, width: int, fine: int) -> tuple[float, float]:
        """Coefficients of the size as base + n * layer."""
        if (width, fine) not in self.lines:
            model = build_on_meta(self.architecture, self.config(width, 2, fine))
            size, layer = float(MEASURES[self.match](model, self.decoding)), 0.0
            if self.architecture.scale.depth is not None:
                layer = float(BLOCK_MEASURES[self.match](model.sequence_blocks()[-1], self.decoding))
            self.lines[width, fine] = size - 2 * layer, layer
        return self.lines[width, fine]

    def _solve_fine(self, default: int, change: float) -> int:
        """The fine dimension nearest to default + change, in steps and within a factor of two of the default."""
        step = self.fine.step
        low, high = math.ceil(default / 2 / step), max(1, 2 * default // step)
        return step * min(max(round((default + change) / step), low), high)
