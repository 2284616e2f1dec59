"""The arms of one size: which points stand for their grids, whether the arms may be ranked, and in what order."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from assay.analysis.ranking.choosing import Choice, choose, selection
from assay.analysis.ranking.entrants import Entrant, by_size
from assay.analysis.wording import join_names, size_name
from assay.errors import RequestError
from assay.records import Match, RunRecord

MATCH_TOLERANCE = 0.01


def _blocks_and_head(run: RunRecord) -> int:
    """A RequestError where the record is older than that count."""
    if run.parameters.blocks_and_head is None:
        raise RequestError(f"{run.label}: its record is older than the match blocks+head; total would do")
    return run.parameters.blocks_and_head


MATCHED: dict[Match, tuple[str, Callable[[RunRecord], int]]] = {
    "blocks+head": ("parameters (blocks and head)", _blocks_and_head),
    "total": ("parameters (total)", lambda run: run.parameters.total),
    "non-embedding": ("non-embedding parameters", lambda run: run.parameters.non_embedding),
    "flops": ("FLOPs per token", lambda run: run.flops_per_token.forward),
    "state": ("bytes of state", lambda run: run.state_bytes),
}
"""How each is called, and where it stands in a record."""


@dataclass(frozen=True)
class Contest:
    """The arms of one size, and what is decided of them."""

    name: str
    """The size in words; empty where the study has one."""
    entrants: Sequence[Entrant]
    choices: Sequence[Choice]
    chains: Sequence[str]
    """Where runs of one seed saw other batches."""
    matched_within: float
    reason: str | None
    """Why no arm gets a rank, or None."""
    floor: float | None = None
    """The nats per token that an arm must beat to be compared."""

    @property
    def ranked(self) -> bool:
        """Whether the arms that are compared have ranks."""
        return self.reason is None

    @property
    def selected(self) -> Mapping[str, bool]:
        """Of every point of a grid, whether it was chosen."""
        return selection(self.choices)

    @property
    def compared(self) -> list[Entrant]:
        """Sound arms without a diverged seed that beat the floor, of a grid the chosen point: best first where ranked.

        Where none beats it, nothing is ranked, and all are compared.
        """
        whole = _comparable(self.entrants, self.selected)
        whole = _above(whole, self.floor) or whole
        return sorted(whole, key=lambda entrant: entrant.mean_nats) if self.ranked else whole

    @property
    def others(self) -> list[Entrant]:
        """What is shown and not compared: first what stands for itself, then points that were not chosen, by group."""
        compared = self.compared
        order = {entrant.point.group: index for index, entrant in enumerate(compared)}
        rest = [entrant for entrant in self.entrants if entrant not in compared]
        return sorted(
            rest,
            key=lambda entrant: (
                entrant.label in self.selected,
                order.get(entrant.point.group, len(order)),
                entrant.point.learning_rate or 0.0,
            ),
        )

    def rank(self, entrant: Entrant) -> int | None:
        """1 + the number of compared arms with fewer nats, so that equal arms share a rank."""
        if not self.ranked or entrant not in self.compared:
            return None
        return 1 + sum(other.mean_nats < entrant.mean_nats for other in self.compared)

    def rivals(self, entrant: Entrant) -> list[str]:
        """Its label and group, and the points among which it was chosen."""
        group = entrant.point.group
        return [group, *(other.label for other in self.entrants if other.point.group == group)]

    def named(self, text: str) -> str:
        """`text` with the size before it, where the study has several."""
        return f"at {self.name}, {text}" if self.name else text


def contests(entrants: Sequence[Entrant], match: Match | None, floor: tuple[str, float] | None = None) -> list[Contest]:
    """One for each size, small to large; `floor` is the name and the nats per token of what an arm must beat."""
    sizes = by_size(entrants)
    return [_contest(of, size_name(size, match) if len(sizes) > 1 else "", match, floor) for size, of in sizes.items()]


def _contest(entrants: Sequence[Entrant], name: str, match: Match | None, floor: tuple[str, float] | None) -> Contest:
    choices = choose(entrants, name)
    chains = _chain_differences(entrants)
    matched_within = _largest_deviation([_matched(entrant, match) for entrant in entrants])
    reason = "; ".join(chains) or _why_not_ranked(entrants, choices, matched_within, match)
    nats = None if floor is None else floor[1]
    if reason is None and floor is not None and not _above(_comparable(entrants, selection(choices)), nats):
        reason = f"no arm beats the {floor[0]} floor"
    return Contest(name, entrants, choices, chains, matched_within, reason, nats)


def _above(entrants: Sequence[Entrant], floor: float | None) -> list[Entrant]:
    """Those with fewer nats per token than the floor."""
    return [entrant for entrant in entrants if floor is None or entrant.mean_nats < floor]


def _comparable(entrants: Sequence[Entrant], selected: Mapping[str, bool]) -> list[Entrant]:
    return [e for e in entrants if not e.diverged and e.unsound is None and selected.get(e.label, True)]


def _matched(entrant: Entrant, match: Match | None) -> int:
    return MATCHED[match or "total"][1](entrant.any)


def _largest_deviation(values: Sequence[float]) -> float:
    """The largest |value - mean| / mean."""
    mean = statistics.fmean(values)
    return max(abs(value - mean) for value in values) / mean


def _chain_differences(entrants: Sequence[Entrant]) -> list[str]:
    """Sentences that say where two finished runs of one seed consumed other batches; a diverged run stopped early."""
    sentences = []
    scored = {entrant.label: entrant.scores for entrant in entrants}
    for seed in sorted({seed for scores in scored.values() for seed in scores}):
        groups: dict[str, list[str]] = {}
        for entrant in entrants:
            if seed in scored[entrant.label]:
                groups.setdefault(entrant.runs[seed].data_chain, []).append(entrant.label)
        if len(groups) > 1:
            largest = max(groups.values(), key=len)
            others = [name for names in groups.values() if names is not largest for name in names]
            sentences.append(f"with seed {seed}, {join_names(others)} saw other batches than {join_names(largest)}")
    return sentences


def _why_not_ranked(
    entrants: Sequence[Entrant], choices: Sequence[Choice], matched_within: float, match: Match | None
) -> str | None:
    """Why no arm gets a rank although all saw the same batches, or None."""
    first = entrants[0]
    for entrant in entrants[1:]:
        if entrant.runs.keys() != first.runs.keys():
            seeds, those = (", ".join(map(str, of.runs)) for of in (entrant, first))
            return f"{entrant.label} ran with seeds {seeds}, {first.label} with seeds {those}"
    if matched_within > MATCH_TOLERANCE:
        what = MATCHED[match or "total"][0]
        sizes = ", ".join(f"{entrant.label} {_matched(entrant, match):,}" for entrant in entrants)
        by_hand = "sizes were given by hand and " if match is None else ""
        return f"{by_hand}{what} lie up to {matched_within:.1%} from their mean, where 1% is allowed: {sizes}"
    if _comparable(entrants, selection(choices)):
        return None
    if all(entrant.diverged for entrant in entrants):
        return "every arm has a diverged seed"
    if all(entrant.unsound for entrant in entrants):
        return "no arm is sound"
    if all(entrant.diverged or entrant.unsound for entrant in entrants):
        return "every sound arm has a diverged seed"
    return "no learning rate can be chosen for any arm"
