"""The section of a study's page that says in words what its arms are like inside, size by size."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from assay.analysis.character import claims, fusion
from assay.analysis.character.answers import Answer
from assay.analysis.character.character import Character, character_of
from assay.analysis.character.questions import Question
from assay.records import MeasuredRun, StudyRecord
from assay.report import quantities
from assay.report.drawing.looks import looks
from assay.report.groups import by_size, drawn
from assay.report.sheets import Field, Head, Sheet


class Asked(NamedTuple):
    """A question with its answers, and the name of its figure; empty where there is none."""

    question: Question
    answers: Sequence[tuple[Field, Answer]]
    figure: str


class Section(NamedTuple):
    """What the page says of the arms of one size."""

    heading: str
    asked: Sequence[Asked]
    words: Sequence[tuple[Field, Sequence[str]]]
    fusion: str
    """Which two to fuse, in short."""
    pairs: Sheet | None
    claims: Sheet | None


def characters(study: StudyRecord, runs: Sequence[MeasuredRun]) -> list[Character]:
    """Of each size of which something was asked; of the arms that figures show: none that cheats, of grids the best."""
    found = []
    for group in by_size(study):
        some_sound = any(arm.unsound is None for arm in group.arms)
        arms = [arm for arm in group.arms if arm.unsound is None or not some_sound]
        seeds = {arm.label: arm.seeds for arm in arms if arm.label in drawn(arms)}
        of = [run for run in runs if run.record.seed in seeds.get(run.record.label, [])]
        one = character_of(of, group.heading, group.name)
        found += [] if one is None else [one]
    return found


def sections(study: StudyRecord, runs: Sequence[MeasuredRun], figures: Sequence[str]) -> list[Section]:
    """One a size; `figures` are the names of those that there are."""
    colours = {label: look.colour for label, look in looks(study).items()}
    return [_section(of, colours, figures) for of in characters(study, runs)]


def _section(of: Character, colours: Mapping[str, str], figures: Sequence[str]) -> Section:
    def arm(label: str) -> Field:
        return Field(label, colour=colours.get(label, ""))

    end = f"-{of.size}" if of.size else ""
    return Section(
        of.heading,
        [
            Asked(
                question,
                [(arm(label), answer) for label, answer in question.answers.items()],
                next((name for name in _names(question, end) if name in figures), ""),
            )
            for question in of.questions
        ],
        [(arm(label), lines) for label, lines in of.words.items() if lines],
        fusion.in_short(of.pairs),
        _pairs(of) if of.pairs else None,
        _claims(of) if of.claims else None,
    )


def _names(question: Question, end: str) -> tuple[str, str]:
    return f"{question.figure}{end}", f"{question.measurement}-{question.figure}{end}"


def _pairs(of: Character) -> Sheet:
    heads = [Head("pair"), Head("advice"), *(Head(name) for name in fusion.RULES)]
    rows = [
        [
            Field(f"{pair.a} and {pair.b}"),
            Field(pair.advice),
            *(Field(f"{ruling.outcome}: {ruling.numbers}" if ruling.numbers else ruling.outcome)
              for ruling in pair.rulings.values()),
        ]
        for pair in of.pairs
    ]  # fmt: skip
    return Sheet(heads, rows, fusion.ADVICE)


def _claims(of: Character) -> Sheet:
    heads = [Head("claim"), Head("document"), Head("tried on"), Head("our number"), Head("so it")]
    rows = [
        [Field(of.text), Field(of.document), Field(of.label or quantities.MISSING), Field(of.ours), Field(of.holds)]
        for of in of.claims
    ]
    return Sheet(heads, rows, claims.WHY)
