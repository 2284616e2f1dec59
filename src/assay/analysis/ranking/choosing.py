"""Which point of each grid of learning rates stands for its arm: the lowest loss on the validation split."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from assay.analysis.ranking.entrants import Entrant
from assay.analysis.rule import Tuning
from assay.analysis.wording import join_names, number, who_has_which
from assay.records import Split

NEARLY = 0.01
"""A rate works as well as the best where validation is at most 1%, or 0.01 nats, above it."""


class Choice(NamedTuple):
    """The points of one group at one size, and the one that was chosen, where one could be."""

    group: str
    size: str
    """In words; empty where the study has one size."""
    points: Sequence[Entrant]
    chosen: Entrant | None

    @property
    def rates(self) -> tuple[float, ...]:
        """Of its points, in ascending order."""
        return tuple(sorted(point.point.learning_rate for point in self.points if point.point.learning_rate))

    @property
    def at_an_end(self) -> bool:
        """Whether a wider grid might hold a better point."""
        return self.chosen is not None and self.chosen.point.learning_rate in (self.rates[:1] + self.rates[-1:])

    @property
    def window(self) -> tuple[float, float] | None:
        """The lowest and the highest rate around the chosen one with a validation as good, as `NEARLY` has it."""
        if self.chosen is None or self.chosen.validation_nats is None:
            return None
        best = self.chosen.validation_nats
        worst = best + max(NEARLY * best, NEARLY)
        by_rate = {point.point.learning_rate or 0.0: point for point in self.points}
        good = [
            why_not(by_rate[rate]) is None and (by_rate[rate].validation_nats or 0.0) <= worst for rate in self.rates
        ]
        low = high = self.rates.index(self.chosen.point.learning_rate or 0.0)
        while low > 0 and good[low - 1]:
            low -= 1
        while high + 1 < len(good) and good[high + 1]:
            high += 1
        return self.rates[low], self.rates[high]

    @property
    def where(self) -> str:
        """The group, and its size where there are several."""
        return f"{self.group} at {self.size}" if self.size else self.group


def choose(entrants: Sequence[Entrant], size: str) -> list[Choice]:
    """Choose among the points of every group of `entrants`, which are of one size; a group of one has no choice."""
    groups: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        groups.setdefault(entrant.point.group, []).append(entrant)
    return [Choice(group, size, points, _best(points)) for group, points in groups.items() if len(points) > 1]


def selection(choices: Sequence[Choice]) -> dict[str, bool]:
    """Label -> whether it was chosen, of every point of a grid."""
    return {point.label: point is choice.chosen for choice in choices for point in choice.points}


def _best(points: Sequence[Entrant]) -> Entrant | None:
    able = [point for point in points if why_not(point) is None]
    return min(able, key=lambda point: point.validation_nats or 0.0) if able else None


def why_not(point: Entrant) -> str | None:
    """Why a point cannot be chosen, or None."""
    if point.unsound is not None:
        return "unsound"
    if point.diverged:
        return f"{point.diverged} of {len(point.runs)} diverged"
    return None if point.validation_nats is not None else "not validated at the end of training"


def said(choices: Sequence[Choice], entrants: Sequence[Entrant], tuning: Tuning, split: Split) -> list[str]:
    """What was chosen among what, and where that was not alike; without a grid, the learning rates there were."""
    if not choices:
        return [_untuned(entrants)]
    best = any(run.spec.get("training", {}).get("weights") == "best" for of in entrants for run in of.runs.values())
    lines = [_chosen(of, split, best) for of in _by_rates(choices)]
    if windows := [_window(choice) for choice in choices if choice.chosen is not None]:
        lines.append(f"Rates within 1% or 0.01 nats of the best: {join_names(windows)}.")
    ends = [choice for choice in choices if choice.at_an_end]
    if ends:
        verb = "is" if len(ends) == 1 else "are"
        lines.append(f"{_rates_of(ends, choices)} {verb} at an end of the grid: a wider grid might find a better one.")
    lines += [
        f"{choice.where}: no learning rate can be chosen ("
        + ", ".join(f"{point.label}: {why_not(point)}" for point in choice.points)
        + "), so it is not ranked."
        for choice in choices
        if choice.chosen is None
    ]
    return lines + _not_alike(choices, entrants, tuning)


def _untuned(entrants: Sequence[Entrant]) -> str:
    rates = {entrant.label: entrant.point.learning_rate for entrant in entrants}
    if len(set(rates.values())) == 1:
        return "Every arm: one learning rate, untuned."
    groups = {entrant.label: entrant.point.group for entrant in entrants}
    known = {label: "unknown" if rate is None else number(rate) for label, rate in rates.items()}
    return f"Learning rates differ, and none was tuned: {who_has_which(known, groups)}."


def _by_rates(choices: Sequence[Choice]) -> list[list[Choice]]:
    """Those that chose among the same learning rates, together."""
    together: dict[tuple[float, ...], list[Choice]] = {}
    for choice in choices:
        together.setdefault(choice.rates, []).append(choice)
    return list(together.values())


def _window(choice: Choice) -> str:
    """ "gpt1 0.001 to 0.01 (10x)": where only one rate works, a small change of anything else may end that."""
    low, high = choice.window or (0.0, 0.0)
    if low == high:
        return f"{choice.where} {number(low)} alone"
    return f"{choice.where} {number(low)} to {number(high)} ({high / low:.3g}x)"


def _chosen(choices: Sequence[Choice], split: Split, best: bool) -> str:
    """One sentence for choices among the same learning rates; `best`: whether each run's best weights are measured."""
    rates = ", ".join(number(rate) for rate in choices[0].rates)
    also = "; the arms are scored on that split too, so the chosen points look better than they are"
    return (
        f"Learning rate chosen among {rates} by the lowest mean nats on the validation split "
        f"{'at the best step of each run' if best else 'at the end of training'}"
        f"{also if split == 'validation' else ''}: {_rates_of(choices, choices)}."
    )


def _rates_of(choices: Sequence[Choice], out_of: Sequence[Choice]) -> str:
    """ "gpt1 0.003, rwkv6 0.003 at 0.5M parameters": sizes are named where not all of those in `out_of` agree."""
    rates: dict[tuple[str, str], list[str]] = {}
    for choice in choices:
        if choice.chosen is not None:
            rates.setdefault((choice.group, number(choice.chosen.point.learning_rate)), []).append(choice.size)
    sizes = {group: [choice.size for choice in out_of if choice.group == group] for group, _ in rates}
    found = [
        f"{group} {rate}" if of == sizes[group] else f"{group} {rate} at {join_names(of)}"
        for (group, rate), of in rates.items()
    ]
    return join_names(found) if found else "none"


def _not_alike(choices: Sequence[Choice], entrants: Sequence[Entrant], tuning: Tuning) -> list[str]:
    """Arms that were given another number of tries than the others."""
    lines = []
    in_grid = {point.label for choice in choices for point in choice.points}
    fixed: Mapping[str, float | None] = {
        entrant.label: entrant.point.learning_rate for entrant in entrants if entrant.label not in in_grid
    }
    for label, rate in fixed.items():
        own = "its own learning rate" if rate is None else f"its own learning rate, {number(rate)}"
        lines.append(f"{label} has {own}, and was not tuned as the others were.")
    if len({choice.rates for choice in choices}) > 1:
        lines.append("The arms had different grids, so they were not tuned alike.")
    short = [
        choice.where for choice in choices if tuning.learning_rates and len(choice.rates) < len(tuning.learning_rates)
    ]
    if short:
        lines.append(f"{join_names(short)} did not run through the whole grid.")
    return lines
