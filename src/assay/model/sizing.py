"""Finds the dimensions that give an architecture a wanted size, measured on the built model, within one per cent."""

import bisect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch

from assay.errors import RequestError
from assay.model.accounting import count_parameters
from assay.model.architecture import Architecture, ModelConfig, assemble
from assay.model.lm import LanguageModel

Match = Literal["total", "non-embedding"]
TOLERANCE = 0.01
CLOSE = 0.003
"""Among sizes this close to the target the most natural shape wins."""

MEASURES: dict[Match, Callable[[LanguageModel], int]] = {
    "total": lambda model: count_parameters(model).total,
    "non-embedding": lambda model: count_parameters(model).non_embedding,
}

MAX_WIDTH = 1 << 20


class Candidate(NamedTuple):
    """A shape that was considered, its size and how far it is from the natural shape."""

    width: int
    n_layers: int
    fine: int
    size: float
    strangeness: float


def build_on_meta(architecture: Architecture, config: ModelConfig) -> LanguageModel:
    """The model without memory behind it, for counting."""
    with torch.device("meta"):
        return assemble(architecture, config)


def solve(architecture: Architecture, target: int, match: Match, fixed: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration whose size is within 1% of `target`, of the most natural shape there is.

    `fixed` holds the dimensions the study sets (vocabulary, tying, body, ...); one that the solver would choose
    itself is a RequestError, and so is a target that cannot be met, with the nearest size that can be had.
    """
    search = _Search(architecture, match, fixed)
    for name in sorted(search.free & set(fixed)):
        raise RequestError(f"--size {target}: chooses {name} itself, which is set to {fixed[name]!r}; give only one")
    candidates = list(search.candidates(target))
    close = [c for c in candidates if abs(c.size / target - 1) <= CLOSE]
    best = min(close, key=lambda c: c.strangeness) if close else search.nearest(candidates, target)
    config = search.config(best.width, best.n_layers, best.fine)
    size = MEASURES[match](build_on_meta(architecture, config))
    if abs(size / target - 1) > TOLERANCE:
        nearest = f"the nearest that can be had is {size:,}"
        raise RequestError(f"--size {target:,}: no {architecture.name} within 1% of that ({match}); {nearest}")
    return config


class _Search:
    """The sizes of one architecture over width, depth and its fine dimension."""

    def __init__(self, architecture: Architecture, match: Match, fixed: Mapping[str, Any]) -> None:
        self.architecture = architecture
        self.match = match
        self.fixed = fixed
        self.common = fixed.get("body") == "common"
        self.fine = "d_ff" if self.common else architecture.scale.fine
        self.free = {"d_model", "n_layers", self.fine, *architecture.scale.dimensions(64)}

    def config(self, width: int, n_layers: int, fine: int) -> ModelConfig:
        chosen = {"d_model": width, "n_layers": n_layers, self.fine: fine}
        return self.architecture.config.parse({**self.architecture.scale.dimensions(width), **self.fixed, **chosen})

    def candidates(self, target: int) -> Iterator[Candidate]:
        """Candidates of every depth up to twice the natural one, at widths around the one that is naturally right."""
        scale = self.architecture.scale
        for width in self._widths(target):
            default = self._fine_default(width)
            base, layer, fine, layer_fine = self._plane(width, default)
            natural = scale.natural_depth(width)
            for n_layers in range(1, math.ceil(2 * natural) + 1):
                size, slope = base + n_layers * layer, fine + n_layers * layer_fine
                value = self._solve_fine(default, (target - size) / slope if slope else 0.0)
                strangeness = abs(math.log(n_layers / natural)) + abs(math.log(value / default))
                yield Candidate(width, n_layers, value, size + slope * (value - default), strangeness)

    def _widths(self, target: int) -> Sequence[int]:
        """Up to 64 widths around the one whose natural depth gives the target, found by bisection.

        They differ from it by at most a half, which a depth within a factor of two of the natural one makes up for.
        """
        step = self.architecture.scale.width_step

        def natural_size(index: int) -> int:
            width = (index + 1) * step
            base, layer = self._line(width, self._fine_default(width))
            return round(base + self.architecture.scale.natural_depth(width) * layer)

        middle = bisect.bisect_left(range(MAX_WIDTH // step), target, key=natural_size) + 1
        low, high = max(1, 2 * middle // 3), 3 * middle // 2 + 1
        return range(low * step, (high + 1) * step, step * max(1, (high - low) // 64))

    def nearest(self, candidates: list[Candidate], target: int) -> Candidate:
        return min(candidates, key=lambda c: abs(c.size / target - 1))

    def _plane(self, width: int, fine: int) -> tuple[float, float, float, float]:
        """Coefficients of the size as base + n * layer + (fine - default) * (slope + n * layer_slope).

        All blocks of an architecture are alike and widths enter once each, so four small builds tell all.
        """
        step = self.architecture.scale.fine_step
        base, layer = self._line(width, fine)
        base_up, layer_up = self._line(width, fine + step)
        return base, layer, (base_up - base) / step, (layer_up - layer) / step

    def _line(self, width: int, fine: int) -> tuple[float, float]:
        """Coefficients of the size as base + n * layer."""
        one, two = (
            float(MEASURES[self.match](build_on_meta(self.architecture, self.config(width, n_layers, fine))))
            for n_layers in (1, 2)
        )
        return 2 * one - two, two - one

    def _solve_fine(self, default: int, change: float) -> int:
        """The fine dimension nearest to default + change, in steps and within a factor of two of the default."""
        step = self.architecture.scale.fine_step
        low, high = math.ceil(default / 2 / step), max(1, 2 * default // step)
        return step * min(max(round((default + change) / step), low), high)

    def _fine_default(self, width: int) -> int:
        return -(-8 * width // 24) * 8 if self.common else self.architecture.scale.fine_default(width)
