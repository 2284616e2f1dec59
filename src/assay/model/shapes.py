"""The search space of sizing: shapes (width, depth, one fine dimension) of an architecture, with expected sizes.

Dimensions that the user fixed stay. A shape is natural if it has the architecture's published proportions.
"""

import bisect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from assay.errors import RequestError
from assay.model.architecture import Architecture, Fine, ModelConfig
from assay.model.proportions import swiglu_width
from assay.records import Match

MAX_WIDTH = 1 << 20
MAX_DEPTH = 256
WIDTHS = 64
LOOK = 4096
"""The number of widths that are tried to find the next one that fits the fixed dimensions."""

Line = Callable[[ModelConfig], tuple[float, float]]
"""A function from a configuration to (the model's size without its blocks, the size of one block)."""


class Reach(NamedTuple):
    """How far the search may go from the natural shape."""

    width_step: int
    spread: float
    """The width may differ by this factor, either way."""
    stretch: float
    """The fine dimension may differ by this factor, either way, and the depth be larger by it."""


FAR = 1000.0


class Candidate(NamedTuple):
    """A shape, its expected size, and its distance from the natural shape (sum of absolute log ratios)."""

    width: int
    n_layers: int
    fine: int
    size: float
    strangeness: float


class Plane(NamedTuple):
    """Coefficients of the size at one width: base + n * layer + (fine - default) * (fine_base + n * fine_layer).

    n is the number of layers, `fine` the fine dimension and `default` its usual value at that width.
    """

    base: float
    layer: float
    fine_base: float
    fine_layer: float


class Shapes:
    """The shapes that one architecture can have while the `fixed` dimensions stay what they are."""

    def __init__(self, architecture: Architecture, match: Match, fixed: Mapping[str, Any], line: Line) -> None:
        self.architecture = architecture
        self.fixed = fixed
        self.has_depth = architecture.scale.depth is not None
        self.refusal: RequestError | None = None
        """Why the last shape that was tried does not fit together."""
        self._line_of = line
        self._lines: dict[tuple[int, int], tuple[float, float]] = {}
        self._fit: dict[int, bool] = {}
        self._refuse_what_counts_nothing()
        scale = architecture.scale
        self.fine = Fine(scale.fine, scale.fine_step, scale.fine_default)
        if match == "state" and scale.state_fine is not None and self._takes(scale.state_fine):
            self.fine = scale.state_fine
        elif fixed.get("body") == "common" and (match != "state" or scale.fine == "d_ff"):
            self.fine = Fine("d_ff", 4, swiglu_width)
        self._fit.clear()  # the fine dimension is part of what fits
        self._fine_matters = self.fine.name not in fixed
        own = {"d_model", self.fine.name, *scale.dimensions(64)} | ({"n_layers"} if self.has_depth else set())
        self.chosen = sorted(own)
        """The names of the dimensions that are chosen where they are not fixed."""

    def config(self, width: int, n_layers: int, fine: int) -> ModelConfig | None:
        """The configuration of a shape; None where its dimensions do not fit together, and `refusal` says why."""
        return self._parsed({**self._values(width, n_layers, fine), **self.fixed})

    def reaches(self) -> list[Reach]:
        """The reaches to try, from near the natural shape outwards; the widest only where dimensions are fixed."""
        if "d_model" in self.fixed:
            return [Reach(1, 1.0, 2.0), Reach(1, 1.0, FAR)]
        usual = [Reach(self.architecture.scale.width_step, 1.5, 2.0), Reach(2, 3.0, 2.0), Reach(1, 3.0, 2.0)]
        return [*usual, Reach(1, 3.0, FAR)] if set(self.chosen) & set(self.fixed) else usual

    def candidates(self, target: int, reach: Reach) -> Iterator[Candidate]:
        """Candidates of every depth in reach, at the widths of `_widths`."""
        for width in self._widths(target, reach):
            try:
                yield from self._at(width, target, reach)
            except RequestError as error:  # the next value of the fine dimension does not fit
                self.refusal = error

    def _at(self, width: int, target: int, reach: Reach) -> Iterator[Candidate]:
        plane, natural = self._plane(width, self.fine.default(width)), self._natural_depth(width)
        for n_layers in self._depths(width, reach.stretch):
            candidate = self._candidate(target, width, n_layers, plane, reach.stretch)
            yield candidate
            if n_layers > 2 * natural and candidate.size > 2 * target:
                break

    def _candidate(self, target: int, width: int, n_layers: int, plane: Plane, stretch: float) -> Candidate:
        """The candidate of this width and depth, its fine dimension chosen as if size were linear in it."""
        default, fine = self.fine.default(width), self.fine.default(width)
        size, slope = plane.base + n_layers * plane.layer, plane.fine_base + n_layers * plane.fine_layer
        if slope:
            fine = self._solve_fine(default, (target - size) / slope, stretch)
        # Nothing but the fine dimension is free here, so an estimate that is off has no other shape to make up for it.
        if slope and "d_model" in self.fixed and not self.has_depth:
            fine = self._search_fine(target, width, max(default, 2 * fine))
        strangeness = abs(math.log(n_layers / self._natural_depth(width))) + abs(math.log(fine / default))
        return Candidate(width, n_layers, fine, size + slope * (fine - default), strangeness)

    def _search_fine(self, target: int, width: int, most: int) -> int:
        """The fine dimension, at most about `most`, whose measured size is nearest to the target; by bisection."""
        step = self.fine.step

        def excess(index: int) -> float:
            base, _ = self._line(width, (index + 1) * step)
            return base - target

        over = bisect.bisect_left(range(max(1, most // step)), 0.0, key=excess)
        nearest = min((max(0, over - 1), over), key=lambda index: abs(excess(index)))
        return (nearest + 1) * step

    def _refuse_what_counts_nothing(self) -> None:
        """Raise a RequestError where a fixed width or depth is not a positive whole number."""
        for name in ("d_model", "n_layers"):
            value = self.fixed.get(name, 1)
            if type(value) is not int or value < 1:
                self.architecture.config.parse(self.fixed)
                raise RequestError(f"model.{name}: {value!r} given, a whole number of at least 1 would do")

    def _takes(self, fine: Fine) -> bool:
        """Whether the architecture has the dimension `fine` given what is fixed; in a hybrid its mixers decide."""
        self.fine = fine
        return self._next_fitting(16 * self.architecture.scale.width_step, 1) is not None

    def _values(self, width: int, n_layers: int, fine: int) -> dict[str, Any]:
        """The chosen dimensions, with what goes with the width."""
        values = {**self._heads(width), "d_model": width, self.fine.name: fine}
        return {**values, "n_layers": n_layers} if self.has_depth else values

    def _heads(self, width: int) -> dict[str, Any]:
        """The dimensions that follow from the width. If either number or width of heads is fixed, the other is chosen
        so that all heads together are as wide as usual.
        """
        usual = self.architecture.scale.dimensions(width)
        if {"n_heads", "head_dim"} <= usual.keys():
            together = usual["n_heads"] * usual["head_dim"]
            for one, other in (("n_heads", "head_dim"), ("head_dim", "n_heads")):
                given = self.fixed.get(one)
                if type(given) is int and given > 0:
                    usual[other] = max(1, round(together / given))
        return usual

    def _fits(self, width: int) -> bool:
        """Whether this width fits the fixed dimensions."""
        if width not in self._fit:
            values = self._values(width, 2, self.fine.default(width))
            self._fit[width] = self._parsed({**values, **self.fixed}) is not None
        return self._fit[width]

    def _parsed(self, values: Mapping[str, Any]) -> ModelConfig | None:
        try:
            return self.architecture.config.parse(values)
        except RequestError as error:
            self.refusal = error
            return None

    def _next_fitting(self, width: int, step: int) -> int | None:
        """The first multiple of `step` from `width` on that fits; None where there is none near."""
        if "d_model" in self.fixed:
            return self.fixed["d_model"] if self._fits(self.fixed["d_model"]) else None
        first = -(-width // step) * step
        return next(filter(self._fits, range(first, first + LOOK * step, step)), None)

    def _widths(self, target: int, reach: Reach) -> Sequence[int]:
        """About 64 widths, or 256 where few fit, within a factor (the reach's spread) of the natural width.

        The natural width is the one at which the natural depth gives the target size. With a spread of 1.5 a depth
        within a factor of two makes up for the width.
        """
        smallest = self._next_fitting(1, 1)
        if smallest is None or "d_model" in self.fixed:
            return [] if smallest is None else [smallest]
        step = reach.width_step
        middle = self._middle(target, step) // step
        above = (self._next_fitting(middle * step, step) or middle * step) // step
        low, high = max(1, int(middle / reach.spread)), int(above * reach.spread) + 1
        stride = max(1, (high - low) // WIDTHS)
        after = self._next_fitting((above + 1) * step, step)
        if after is not None and after > (above + 1) * step:  # few widths fit, so skip fewer
            stride = min(stride, max(after // step - above, stride // 4))
        around = range(low * step, (high + 1) * step, step * stride)
        fitting = (self._next_fitting(width, step) for width in around)
        return list(dict.fromkeys(width for width in fitting if width is not None and width <= high * step))

    def _middle(self, target: int, step: int) -> int:
        """The width at which the natural depth gives the target size, by bisection over widths that fit."""
        coarse = self.architecture.scale.width_step
        step = coarse if self._fits(coarse) else step

        def reaches_target(index: int) -> bool:
            while (width := self._next_fitting((index + 1) * step, step)) is not None:
                try:
                    base, layer = self._line(width, self.fine.default(width))
                except RequestError:  # it does not fit after all: the next one
                    if width == self.fixed.get("d_model"):
                        raise
                    continue
                return base + self._natural_depth(width) * layer >= target
            return True

        enough = MAX_WIDTH // step
        if not self._fits(coarse):  # finding widths that fit is slow among large ones, so bound the bisection first
            enough = next(n for n in (2**k for k in range(64)) if n >= enough or reaches_target(n - 1))
        return (bisect.bisect_left(range(enough), True, key=reaches_target) + 1) * step

    def _natural_depth(self, width: int) -> float:
        if self.has_depth and "n_layers" in self.fixed:
            return float(self.fixed["n_layers"])
        return self.architecture.scale.natural_depth(width)

    def _depths(self, width: int, stretch: float) -> Sequence[int]:
        """The depths to try: the fixed one, or all up to `stretch` times the natural one."""
        if not self.has_depth:
            return [1]
        if "n_layers" in self.fixed:
            return [self.fixed["n_layers"]]
        natural = self._natural_depth(width)
        return range(1, math.ceil(min(stretch * natural, max(MAX_DEPTH, 2 * natural))) + 1)

    def _plane(self, width: int, default: int) -> Plane:
        """The coefficients of the size at this width, from two builds.

        Two are enough: all blocks but the first have the same size, and it is taken to be linear in the fine dimension.
        """
        base, layer = self._line(width, default)
        if not self._fine_matters:
            return Plane(base, layer, 0.0, 0.0)
        step = self.fine.step
        base_up, layer_up = self._line(width, default + step)
        self._fine_matters = (base_up, layer_up) != (base, layer)
        return Plane(base, layer, (base_up - base) / step, (layer_up - layer) / step)

    def _line(self, width: int, fine: int) -> tuple[float, float]:
        """The `Line` function applied to this shape with two layers, even where another depth is fixed."""
        if (width, fine) not in self._lines:
            two = {"n_layers": 2} if self.has_depth else {}
            config = self.architecture.config.parse({**self._values(width, 2, fine), **self.fixed, **two})
            try:
                self._lines[width, fine] = self._line_of(config)
            except RequestError as error:  # a layer refuses this width, which its configuration did not
                self._fit[width], self.refusal = False, error
                raise
        return self._lines[width, fine]

    def _solve_fine(self, default: int, change: float, stretch: float) -> int:
        """The fine dimension nearest to default + change, in steps, within a factor of `stretch` of the default."""
        step = self.fine.step
        low, high = math.ceil(default / stretch / step), max(1, int(stretch * default) // step)
        return step * min(max(round((default + change) / step), low), high)
