"""The sentences that must be read before the table of a study: what it can and cannot show."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from assay.analysis import additions, columns, initial_spread, under_floors
from assay.analysis.ranking import choosing, differences, evidence, setups
from assay.analysis.ranking.contests import Contest
from assay.analysis.ranking.verdicts import TWO_SEEDS
from assay.analysis.rule import Rule, Tuning
from assay.analysis.wording import counted, join_names
from assay.records import Addition, Arm, ArmAudit, Floor, MeasuredRun, Pair, Results, RunRecord, Split

COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER = 20
"""Hoffmann et al. 2022, table 3."""
MANY = 8
"""So many arms are counted rather than named where the same is said of all."""


class Findings(NamedTuple):
    """All that the sentences are about."""

    measured: Sequence[MeasuredRun]
    contests: Sequence[Contest]
    arms: Sequence[Arm]
    pairs: Sequence[Pair]
    floors: Mapping[str, Floor]
    audits: Sequence[ArmAudit]
    results: Results
    added: Sequence[Addition]
    rule: Rule
    tuning: Tuning
    split: Split


def headline(of: Findings, body: str) -> list[str]:
    """What forbids or devalues a ranking first. `body` is what was set for all arms: a key of `differences.BODIES`."""
    entrants = [entrant for contest in of.contests for entrant in contest.entrants]
    choices = [choice for contest in of.contests for choice in contest.choices]
    lines = [
        *_unsound(of.arms),
        *_not_ranked(of.contests),
        *_diverged(of.arms),
        *under_floors.said(of.arms, of.floors),
        _tokens(of.contests),
    ]
    if of.split == "validation":
        lines.append("Scored on the validation split; the test split stays closed.")
    lines += choosing.said(choices, entrants, of.tuning, of.split)
    lines += differences.said({contest.name: contest.entrants for contest in of.contests}, body)
    lines += initial_spread.said(of.contests)
    lines += evidence.said(of.contests, of.pairs, of.rule, of.split, under_floors.scored_on(of.floors))
    lines += _audited(of.arms, of.audits)
    lines += additions.said(of.added)
    runs = [run.record for run in of.measured]
    lines += setups.said(runs) + _broken_chains(runs) + columns.said(of.measured, of.results)
    if max(len(arm.seeds) for arm in of.arms) == 1:
        lines.append("One seed: nothing is resolved.")
    elif of.pairs and any(contest.ranked for contest in of.contests):
        lines.append(_resolved(of.pairs))
    return lines


def tokens_per_parameter(contest: Contest) -> float:
    """Training tokens over the mean of the total parameters of the arms of one size."""
    sizes = [entrant.any.parameters.total for entrant in contest.entrants]
    return max(run.tokens for entrant in contest.entrants for run in entrant.runs.values()) / statistics.fmean(sizes)


def _tokens(contests: Sequence[Contest]) -> str:
    counts = [tokens_per_parameter(contest) for contest in contests]
    at = [
        f"{of:.3g} at {contest.name}" if contest.name else f"{of:.3g}"
        for of, contest in zip(counts, contests, strict=True)
    ]
    start = (
        f"{at[0]} training tokens per parameter" if len(at) == 1 else f"Training tokens per parameter: {join_names(at)}"
    )
    if min(counts) >= COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER:
        return f"{start}."
    optimum = f"about {COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER} are compute-optimal (Hoffmann et al. 2022)"
    return f"{start} (this ranks early learning); {optimum}."


def _unsound(arms: Sequence[Arm]) -> list[str]:
    return [f"UNSOUND: {arm.label} is not ranked: {arm.unsound}." for arm in arms if arm.unsound is not None]


def _not_ranked(contests: Sequence[Contest]) -> list[str]:
    return [f"Not ranked: {contest.named(contest.reason)}." for contest in contests if contest.reason is not None]


def _audited(arms: Sequence[Arm], audits: Sequence[ArmAudit]) -> list[str]:
    """Which arms were audited and are sound."""
    lines = []
    groups: dict[tuple[str, ...], list[str]] = {}
    for arm in arms:
        of_arm = {audit.moment.split()[0] for audit in audits if audit.label == arm.label}
        if arm.unsound is None and of_arm:  # one whose seeds all diverged was not audited after training
            groups.setdefault(tuple(sorted(of_arm, reverse=True)), []).append(arm.label)
    for moments, audited in groups.items():
        all_of_many = len(audited) == len(arms) > MANY
        names = f"all {len(arms)} arms" if all_of_many else join_names(audited)
        lines.append(f"Audited {join_names(moments)} training{'' if len(moments) > 1 else ' only'}: {names} sound.")
    return lines


def _diverged(arms: Sequence[Arm]) -> list[str]:
    """Arms that are not ranked as a seed diverged; points of grids together."""
    lost = [arm for arm in arms if arm.diverged and arm.unsound is None]
    lines = [
        f"{arm.label}: {arm.diverged} of {len(arm.seeds)} diverged, so it is not ranked."
        for arm in lost
        if arm.selected is None
    ]
    points = [f"{arm.label} ({arm.diverged} of {len(arm.seeds)})" for arm in lost if arm.selected is not None]
    return [*lines, f"Not to be chosen, as seeds diverged: {join_names(points)}."] if points else lines


def _broken_chains(runs: Sequence[RunRecord]) -> list[str]:
    broken: dict[str, int] = {}
    for run in runs:
        broken[run.label] = broken.get(run.label, 0) + (run.chain_broken is not None)
    return [
        f"{label}: {counted(count, 'run')} resumed on another set-up, so not bit for bit."
        for label, count in broken.items()
        if count
    ]


def _resolved(pairs: Sequence[Pair]) -> str:
    resolved = sum(pair.resolved for pair in pairs)
    nominal = sum(pair.resolved and pair.nominal is not None for pair in pairs)
    nominally = f", {'nominally' if nominal == resolved else f'{nominal} of them nominally'}" if nominal else ""
    if resolved and min(pair.n_seeds for pair in pairs) == 2:
        nominally += f", {TWO_SEEDS}"
    if resolved == len(pairs):
        return f"{'The one pair is' if len(pairs) == 1 else f'All {len(pairs)} pairs are'} resolved{nominally}."
    if resolved == 0:
        return "No pair is resolved: the order may be chance."
    return f"Resolved: {resolved} of {len(pairs)} pairs{nominally}; the order within the others may be chance."
