"""How often the right answer of a task in words is the likeliest of its candidates, beside what needs no memory."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from assay.analysis.intervals.proportions import clopper_pearson
from assay.data.worded.dataset import TextTaskDataset
from assay.data.worded.examples import DEPTHS, Example, Piece
from assay.evaluation.candidates import Asked, answer_nats
from assay.evaluation.measurement import Given, Measurement, register
from assay.records import Column, FigurePoint, MeasuredFigure, Record, Split

MOST, FEWEST = 512, 64
"""Examples that are asked, at most and at least."""
READ_TOKENS = 1_000_000
"""About so many tokens are read at most, where that leaves as many as FEWEST."""


class Group(Record):
    """The examples of one kind, or of one level of an axis."""

    axis: str
    level: str
    answers: int
    accuracy: float
    low: float
    high: float
    floor: float
    """The highest of the floors over these examples."""
    statefulness: float | None
    """(accuracy - floor) / (1 - floor); None where the floor is 1."""


class Choices(Record):
    """Accuracy among the candidates. Intervals are of 95%, over examples, of this one trained model."""

    split: Split
    accuracy: float
    low: float
    high: float
    right: int
    answers: int
    without_fact: float
    """The share that the same model answers right where what says the answer is taken out of the text."""
    last_mentioned: float
    """The share in which the candidate mentioned last is the answer."""
    uniform: float
    """One of the candidates, guessed."""
    floor: float
    """The highest of these three."""
    statefulness: float | None
    """(accuracy - floor) / (1 - floor): 1 for perfect memory, 0 at the floor; None where the floor is 1."""
    statefulness_low: float | None
    """The same of the interval's ends, the floor taken as known."""
    statefulness_high: float | None
    nats_per_answer: float
    """Of the right answer, all its tokens together."""
    groups: list[Group]


class _Scored(NamedTuple):
    """[n] what became of each example."""

    right: np.ndarray
    without_fact: np.ndarray
    last_mentioned: np.ndarray
    uniform: np.ndarray


class MeasureChoices(Measurement[Choices]):
    """Held-out examples of a task in words; an answer's nats are those of all its tokens."""

    name = "choices"
    question = "How often is the right answer the likeliest of its candidates, and what of that needs memory?"
    unit = "share of answers"
    group = "memory"
    needs = frozenset({"trained", "words"})
    record = Choices

    def measure(self, given: Given, readers: Sequence[object]) -> Choices:
        assert isinstance(given.task, TextTaskDataset)
        task = given.task
        context = given.held_out.inputs.shape[1]
        examples = task.examples(given.split, context, _affordable(task, given, context))
        nats = _nats(given, task, examples, lambda one: one.pieces)
        without = _nats(given, task, examples, Example.without_facts)
        answers = np.array([list(one.candidates).index(one.answer) for one in examples])
        scored = _Scored(
            right=_likeliest(nats) == answers,
            without_fact=_likeliest(without) == answers,
            last_mentioned=np.array([one.last == one.answer for one in examples]),
            uniform=np.array([1 / len(one.candidates) for one in examples]),
        )
        everything = np.ones(len(examples), dtype=bool)
        whole = _group("", "", scored, everything)
        floors = _floors(scored, everything)
        return Choices(
            split=given.split,
            accuracy=whole.accuracy,
            low=whole.low,
            high=whole.high,
            right=int(scored.right.sum()),
            answers=len(examples),
            without_fact=floors[0],
            last_mentioned=floors[1],
            uniform=floors[2],
            floor=whole.floor,
            statefulness=whole.statefulness,
            statefulness_low=_statefulness(whole.low, whole.floor),
            statefulness_high=_statefulness(whole.high, whole.floor),
            nats_per_answer=float(np.mean([of[at] for of, at in zip(nats, answers, strict=True)])),
            groups=_groups(examples, scored),
        )

    def columns(self, values: Choices) -> list[Column]:
        return [
            Column(key="accuracy", head="right choice", format="percent", value=values.accuracy, better="higher",
                   floor=values.floor, low=values.low, high=values.high),
            Column(key="floor", head="floor", second="of choices", format="percent", value=values.floor,
                   spread="range"),
            Column(key="statefulness", head="statefulness", format="percent", value=values.statefulness,
                   low=values.statefulness_low, high=values.statefulness_high, better="higher"),
        ]  # fmt: skip

    def figures(self, values: Choices) -> list[MeasuredFigure]:
        kinds = [group for group in values.groups if group.axis == "kind"]
        if len(kinds) < 2:
            return []
        return [
            MeasuredFigure(
                name="kinds",
                title="Right choices by kind",
                caption="The share of examples whose right answer is the likeliest candidate. The floor is the highest "
                "of: the same model without the fact, the value mentioned last, a guess.",
                kind="lines",
                x_title="kind",
                x_called="kind",
                x_names={str(at): group.level for at, group in enumerate(kinds)},
                y_title="share of answers",
                unit="share",
                series=["model", "floor"],
                points=[
                    point
                    for at, group in enumerate(kinds)
                    for point in (
                        FigurePoint(x=at, y=group.accuracy, series="model"),
                        FigurePoint(x=at, y=group.floor, series="floor"),
                    )
                ],
            )
        ]

    def sentences(self, values: Choices) -> list[str]:
        lines = [
            f"{values.right:,} of {values.answers:,} right answers are the likeliest candidate, {values.accuracy:.1%} "
            f"(95% interval {values.low:.1%} to {values.high:.1%}); without the fact {values.without_fact:.1%}, the "
            f"value mentioned last {values.last_mentioned:.1%}, guessed {values.uniform:.1%}."
        ]
        by_axis: dict[str, list[Group]] = {}
        for group in values.groups:
            by_axis.setdefault(group.axis, []).append(group)
        for axis, groups in by_axis.items():
            if len(groups) > 1:
                said = ", ".join(f"{one.level} {one.accuracy:.0%} (floor {one.floor:.0%})" for one in groups)
                lines.append(f"By {axis}: {said}.")
        return lines


def _affordable(task: TextTaskDataset, given: Given, context: int) -> int:
    """How many examples are asked: fewer where each is many rows of a long context."""
    rows = max(len(one.candidates) for one in task.examples(given.split, context, FEWEST))
    single = all(
        task.words.tokens(answer) == 1 for one in task.examples(given.split, context, 1) for answer in one.candidates
    )
    tokens = 2 * context * (1 if single else rows)
    return max(FEWEST, min(MOST, READ_TOKENS // tokens))


def _nats(
    given: Given, task: TextTaskDataset, examples: Sequence[Example], text: Callable[[Example], Sequence[Piece]]
) -> list[np.ndarray]:
    words = task.words
    asked = [Asked(words.joined(text(one)), [words.ids(answer) for answer in one.candidates]) for one in examples]
    return answer_nats(given.trained, asked, given.plan)


def _likeliest(nats: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([int(of.argmin()) for of in nats])


def _groups(examples: Sequence[Example], scored: _Scored) -> list[Group]:
    """Those of the kinds, then of the levels of each axis."""
    axes = {"kind": [one.kind for one in examples]}
    for axis in dict.fromkeys(axis for one in examples for axis in one.levels):
        axes[axis] = [one.levels.get(axis, "") for one in examples]
    groups = []
    for axis, levels in axes.items():
        there = set(levels) - {""}
        in_order = [*(of for of in DEPTHS if of in there), *sorted(there - set(DEPTHS))]
        groups += [_group(axis, level, scored, np.array([of == level for of in levels])) for level in in_order]
    return groups


def _group(axis: str, level: str, scored: _Scored, here: np.ndarray) -> Group:
    n, floor = int(here.sum()), max(_floors(scored, here))
    share = clopper_pearson(int(scored.right[here].sum()), n)
    return Group(
        axis=axis,
        level=level,
        answers=n,
        accuracy=share.mean,
        low=share.low,
        high=share.high,
        floor=floor,
        statefulness=_statefulness(share.mean, floor),
    )


def _floors(scored: _Scored, here: np.ndarray) -> tuple[float, float, float]:
    """Without the fact, the last mentioned, guessed."""
    without, last, uniform = (
        float(of[here].mean()) for of in (scored.without_fact, scored.last_mentioned, scored.uniform)
    )
    return without, last, uniform


def _statefulness(accuracy: float, floor: float) -> float | None:
    return None if floor >= 1 else (accuracy - floor) / (1 - floor)


register(MeasureChoices())
