"""From the records of runs to the record of a study: arms over seeds, whether they may be ranked, what was resolved."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay.analysis import under_floors
from assay.analysis.additions import rests_on
from assay.analysis.arms import arm
from assay.analysis.columns import measured_by, mixed
from assay.analysis.headline import Findings, headline, tokens_per_parameter
from assay.analysis.ranking.belonging import refuse_strangers
from assay.analysis.ranking.contests import Contest, contests
from assay.analysis.ranking.entrants import Point, gather
from assay.analysis.ranking.pairs import Nominal, Ranking, compare_pairs
from assay.analysis.rule import UNTUNED, USUAL_RULE, Rule, Tuning
from assay.records import Addition, ArmAudit, Floor, Match, MeasuredRun, Results, Split, StudyRecord


def compare_runs(
    runs: Sequence[MeasuredRun],
    protocol: dict[str, Any],
    corpus: dict[str, Any],
    floors: dict[str, Floor],
    environment: dict[str, str],
    match: Match | None,
    audits: Sequence[ArmAudit] = (),
    *,
    points: Mapping[str, Point] | None = None,
    results: Results | None = None,
    added: Sequence[Addition] = (),
    rule: Rule = USUAL_RULE,
    tuning: Tuning = UNTUNED,
    split: Split = "test",
) -> StudyRecord:
    """Turn the runs of a study into its record. Everything goes by the label of a run.

    `protocol["body"]` is "native" or "common". `match` names what the arms of a size were made equal in; None says
    that sizes were given by hand, and ranking then needs totals within 1%. `points` says of each label to which group,
    size and learning rate it belongs; a label without one stands for itself. `results` are those of scope study. An arm
    of which one of the `audits` says that it is unsound is shown and not ranked, and so is one that does not beat the
    unigram floor, or the chance of a task. Records that do not belong together
    are a RequestError.
    """
    refuse_strangers(runs, split)
    points, results = points or {}, results or {}
    fields = contests(gather(runs, points, split, audits), match, under_floors.least(floors))
    rankings = _rankings(fields, rule, under_floors.scored_on(floors))
    pairs = compare_pairs(rankings, rule, _nominal(fields, added))
    hidden = mixed(run.results for run in runs)
    arms = [arm(of, field, rule.level, results, hidden) for field in fields for of in field.compared + field.others]
    reasons = [field.named(field.reason) for field in fields if field.reason is not None]
    findings = Findings(runs, fields, arms, pairs, floors, audits, results, added, rule, tuning, split)
    return StudyRecord(
        headline=headline(findings, str(protocol.get("body", "native"))),
        ranked=not reasons,
        not_ranked_because="; ".join(reasons) or None,
        protocol=protocol,
        arms=arms,
        measured=measured_by(runs, results),
        audits=list(audits),
        pairs=pairs,
        floors=floors,
        tokens_per_parameter=tokens_per_parameter(fields[-1]),
        chains_equal=not any(field.chains for field in fields),
        matched_within=max(field.matched_within for field in fields),
        corpus=corpus,
        environment=environment,
        added=list(added),
        split=split,
        level=rule.level,
        match=match,
        report=None,
    )


def _rankings(fields: Sequence[Contest], rule: Rule, scored_on: str) -> list[Ranking]:
    """The arms of each size that are compared; with a baseline none where it is not among them."""
    rankings = []
    for field in fields:
        baseline = next((of.label for of in field.compared if of.point.group == rule.baseline), None)
        if rule.baseline is None or baseline is not None:
            arms = {of.label: of.scores for of in field.compared}
            rankings.append(Ranking(arms, field.ranked, "size" if field.name else "study", baseline, scored_on))
    return rankings


def _nominal(fields: Sequence[Contest], added: Sequence[Addition]) -> Nominal:
    rivals = {entrant.label: field.rivals(entrant) for field in fields for entrant in field.entrants}
    return lambda a, b, seeds: rests_on(added, {*rivals[a], *rivals[b]}, seeds)
