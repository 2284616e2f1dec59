"""A finished study to which measurements were added: its columns and words anew, its verdicts as they stand."""

from collections.abc import Collection, Mapping, Sequence

from assay.analysis import additions, initial_spread
from assay.analysis.columns import AGAIN, arm_columns, measured_by, mixed, said
from assay.analysis.comparison import compare_runs
from assay.analysis.ranking.entrants import Point
from assay.analysis.rule import Rule, Tuning
from assay.analysis.wording import size_name
from assay.records import Addition, MeasuredRun, Results, StudyRecord
from assay.records.results import LIKELIHOOD


def refreshed(
    study: StudyRecord,
    runs: Sequence[MeasuredRun],
    results: Results,
    measured: Collection[str],
    added: Sequence[Addition],
) -> StudyRecord:
    """`study` with the columns of today's results; `measured` are the names of those that are new.

    Arms are ranked on the likelihood, so that they are judged again where that is new.
    """
    if LIKELIHOOD in measured:
        return _judged_again(study, runs, results, added)
    of_arm: dict[str, list[MeasuredRun]] = {arm.label: [] for arm in study.arms}
    for run in runs:
        if run.likelihood(study.split) is not None:
            of_arm[run.record.label].append(run)
    hidden = mixed(run.results for run in runs)
    arms = [
        arm.model_copy(
            update={
                "columns": arm_columns(
                    arm.label, [run.results for run in of_arm[arm.label]], results, study.level, hidden
                )
            }
        )
        for arm in study.arms
    ]
    replaced = {sentence for of in study.measured if of.scope == "study" for sentence in of.sentences}
    headline = [line for line in study.headline if line not in replaced and not _said_anew(line)]
    anew = [*additions.said(added), *said(runs, results), *_initial_spreads(study, of_arm)]
    more = [line for line in anew if line not in headline]
    return study.model_copy(
        update={
            "arms": arms,
            "measured": measured_by(runs, results),
            "headline": [*headline, *more],
            "added": list(added),
        }
    )


def _said_anew(line: str) -> bool:
    return line.endswith(AGAIN) or line.startswith(initial_spread.START)


def _initial_spreads(study: StudyRecord, of_arm: Mapping[str, Sequence[MeasuredRun]]) -> list[str]:
    """What is said of arms that begin far from the others of their size."""
    sizes: dict[int | None, dict[str, list[Results]]] = {}
    for arm in study.arms:
        of = [run.results for run in of_arm[arm.label]]
        sizes.setdefault(arm.size, {}).setdefault(arm.group or arm.label, of)
    several = len(sizes) > 1
    return [
        line
        for size, arms in sizes.items()
        for line in initial_spread.said_of(arms, size_name(size, study.match) if several else "")
    ]


def _judged_again(
    study: StudyRecord, runs: Sequence[MeasuredRun], results: Results, added: Sequence[Addition]
) -> StudyRecord:
    protocol: Mapping[str, object] = study.protocol
    rule = protocol.get("rule")
    points = {arm.label: Point(arm.group or arm.label, arm.size, arm.learning_rate) for arm in study.arms}
    tuning = protocol.get("tuning")
    again = compare_runs(
        runs,
        study.protocol,
        study.corpus,
        study.floors,
        study.environment,
        study.match,
        study.audits,
        points=points,
        results=results,
        added=added,
        rule=Rule.parse(rule) if isinstance(rule, dict) else Rule(level=study.level),
        tuning=Tuning.parse(tuning if isinstance(tuning, dict) else {}),
        split=study.split,
    )
    return again.model_copy(update={"report": study.report, "concluded": study.concluded})
