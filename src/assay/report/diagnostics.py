"""The columns that say what goes on inside a model, apart from how well it predicts, and what each of them means."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from assay.records import Arm, StudyRecord
from assay.report.columns import Cell, Column, study_columns

DIAGNOSTIC = ("signals", "memory", "character")
"""The groups of measurements whose columns are diagnostics."""

MEANINGS = {
    ("signals", "growth"): "The standard deviation of the residual stream after the last block over that after the "
    "first; under it over that after the embedding, which a small embedding makes large.",
    (
        "signals",
        "verdict",
    ): "Amplifier: the growth of some seed is above 1.5. Damper: below 0.5. Neutral: between. After "
    "training, and under it before. The thresholds are fixed.",
    ("signals", "initial_stream"): "Before training: the standard deviation of the residual stream after the embedding "
    "and, under it, of the logits.",
    ("recall", "recall"): "Nats of tokens that complete a bigram of their own context, and under it of all others. "
    "Frequent bigrams are easy without any memory.",
    ("output_health", "verdict"): "Overconfident: the loss is more than 0.1 nats above the mean entropy of the "
    "predictions, a number that stands under it. Near uniform: the mean entropy is above 0.95 of that of a model that "
    "says nothing (older results did not look for that). Healthy: neither. It says how sure a model is, not how good.",
}
"""What the columns of the built-in measurements say; of others the question stands in its place."""


class Meaning(NamedTuple):
    """A word in the head of a column, and what it means."""

    word: str
    text: str


def result_columns(study: StudyRecord) -> list[Column]:
    """Scores, counts and speed: what arms are compared in."""
    return [column for column in study_columns(study) if not _diagnoses(study, column)]


def diagnostic_columns(study: StudyRecord) -> list[Column]:
    """The others; "healthy" is not said by results that did not look whether a model says anything."""
    found = [column for column in study_columns(study) if _diagnoses(study, column)]
    old = any(of.name == "output_health" and of.version < 2 for of in study.measured)
    return [
        column._replace(of_arm=partial(_not_overconfident, column))
        if old and (column.measurement, column.key) == ("output_health", "verdict")
        else column
        for column in found
    ]


def _not_overconfident(column: Column, arm: Arm) -> Cell:
    cell = column.of_arm(arm)
    return cell._replace(first="not overconfident" if cell.first == "healthy" else cell.first)


def meanings(study: StudyRecord, columns: Sequence[Column]) -> list[Meaning]:
    """One for each of `columns`."""
    questions = {of.name: of.question for of in study.measured}
    return [
        Meaning(
            column.head.first, MEANINGS.get((column.measurement, column.key), questions.get(column.measurement, ""))
        )
        for column in columns
    ]


def _diagnoses(study: StudyRecord, column: Column) -> bool:
    return any(of.name == column.measurement and of.group in DIAGNOSTIC for of in study.measured)
