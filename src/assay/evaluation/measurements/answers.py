"""How often a model answers what a task asks, beside what can be had without memory, and how far back it remembers."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from assay.analysis.intervals.proportions import share_interval
from assay.data.questions import EVERYTHING, Questions
from assay.data.scoring import ScoringWindows
from assay.evaluation.controls import control_accuracies
from assay.evaluation.measurement import Given, Measurement, Reader, Text, register
from assay.evaluation.scoring import ScoredBatch
from assay.model.accounting import count_state_bytes
from assay.records import Column, FigurePoint, MeasuredFigure, Record, Split
from assay.targets import IGNORED

SOLVED = 0.95
"""From this accuracy on a run is said to have solved its task."""
FEWEST = 10
"""A stretch of distances or a difficulty with fewer answers is not shown."""


class Stretch(Record):
    """The answers at one stretch of an axis, both ends included."""

    axis: str
    first: int
    last: int
    answers: int
    accuracy: float
    low: float
    high: float
    floor: float
    """The higher of both floors, over these answers."""


class Answers(Record):
    """Top-1 accuracy over all ids. Intervals are of 95%, over sequences of this one trained model."""

    split: Split
    accuracy: float
    low: float
    high: float
    right: int
    answers: int
    sequences: int
    nats_per_answer: float
    chance_nats: float
    training_accuracy: float | None
    """On the first sequences that the run was trained on: low there too, it failed to learn, not to recall. None of a
    model that was not trained on the task here.
    """
    uniform_floor: float | None
    """One of the possible answers, guessed; None where the task does not say which there are."""
    bag_floor: float | None
    """One of the values that occur in the sequence, guessed."""
    controls: dict[str, float]
    """Accuracy of tables that see the last 0, 1 and 4 tokens alone; none of answers of several tokens."""
    stretches: list[Stretch]
    half_distance: int | None
    """The first distance in tokens from which on accuracy is closer to its floor than to the nearest stretch's."""
    bits_recalled: float
    """Per sequence, what the answers tell beyond chance: the sum of (chance nats - nats) / ln 2, at least 0."""
    state_bytes: int

    @property
    def floor(self) -> float:
        """The highest accuracy that needs no memory of what belongs where."""
        known = [floor for floor in (self.uniform_floor, self.bag_floor) if floor is not None]
        return max([0.0, *known, *self.controls.values()])


class RightAnswers(Reader):
    """Keeps for every target of one text whether the likeliest of all ids is it, and its nats, both [N, context]."""

    def __init__(self, windows: ScoringWindows, text: Text = "held_out") -> None:
        self.text = text
        self.right = np.zeros(windows.targets.shape, dtype=bool)
        self.nats = np.zeros(windows.targets.shape)

    def read(self, batch: ScoredBatch) -> None:
        rows, places = np.nonzero(batch.targets != IGNORED)
        at = [torch.from_numpy(index).to(batch.hidden.device) for index in (rows, places)]
        likeliest = batch.logits(batch.hidden[at[0], at[1]]).argmax(dim=-1).cpu().numpy()
        self.right[batch.rows[rows], places] = likeliest == batch.targets[rows, places]
        self.nats[batch.rows, : batch.nats.shape[1]] = batch.nats


class MeasureAnswers(Measurement[Answers]):
    """Every target of a task's held-out sequences, and some of those that the run was trained on."""

    name = "answers"
    question = "How often does the model give the right answer, and what of that needs memory?"
    unit = "share of answers"
    group = "memory"
    needs = frozenset({"trained", "task"})
    record = Answers
    version = 2

    def readers(self, given: Given) -> Sequence[Reader]:
        learned = [RightAnswers(given.training, "training")] if "training" in given.texts else []
        return [RightAnswers(given.held_out), *learned]

    def measure(self, given: Given, readers: Sequence[RightAnswers]) -> Answers:
        assert given.task is not None
        windows, task = given.held_out, given.task
        whole = task.answers_are_whole
        correct, asked = _answered(readers[0].right, windows.targets, whole)
        in_training = None
        if len(readers) > 1:
            correct_there, asked_there = _answered(readers[1].right, given.training.targets, whole)
            in_training = float(correct_there[asked_there].mean())
        right, answers = (correct & asked).sum(axis=1), asked.sum(axis=1)
        share = share_interval(right.tolist(), answers.tolist())
        nats = readers[0].nats.sum(axis=1)
        chance = task.task.chance_nats(task.axes)
        if whole:  # chance is per token, and an answer may have several
            chance *= float((windows.targets != IGNORED).sum() / answers.sum())
        questions = task.questions(windows)
        stretches = [] if questions is None else list(_stretches(correct, asked, questions))
        return Answers(
            split=given.split,
            accuracy=share.mean,
            low=share.low,
            high=share.high,
            right=int(right.sum()),
            answers=int(answers.sum()),
            sequences=len(answers),
            nats_per_answer=float(nats.sum() / answers.sum()),
            chance_nats=chance,
            training_accuracy=in_training,
            uniform_floor=None if questions is None else float(questions.uniform[asked].mean()),
            bag_floor=None if questions is None else float(questions.bag[asked].mean()),
            controls={} if whole else control_accuracies(task, windows),
            stretches=stretches,
            half_distance=half_distance(stretches),
            bits_recalled=max(0.0, float((chance * answers - nats).mean()) / math.log(2)),
            state_bytes=count_state_bytes(given.trained, windows.inputs.shape[1], given.plan.bytes_per_element),
        )

    def columns(self, values: Answers) -> list[Column]:
        ends = {"low": values.low, "high": values.high}
        return [
            Column(
                key="accuracy", head="accuracy", format="percent", value=values.accuracy, better="higher",
                floor=values.floor, **ends,
            ),
            Column(key="training", head="accuracy", second="in training", format="percent",
                   value=values.training_accuracy, spread="range"),
            Column(key="floor", head="floor", format="percent", value=values.floor, spread="range"),
            Column(key="solved", head="solved", format="percent", value=float(values.accuracy >= SOLVED),
                   better="higher", spread="range"),
            Column(key="bits", head="bits recalled", second="a sequence", format="number", value=values.bits_recalled,
                   better="higher"),
            Column(key="bits_per_byte", head="bits recalled", second="a state byte", format="number",
                   value=values.bits_recalled / values.state_bytes if values.state_bytes else None, better="higher"),
        ]  # fmt: skip

    def figures(self, values: Answers) -> list[MeasuredFigure]:
        far = [stretch for stretch in values.stretches if stretch.axis == "distance"]
        if len(far) < 2:
            return []
        return [
            MeasuredFigure(
                name="distance",
                title="Accuracy by distance",
                caption="How far back the farthest token stands that an answer rests on. Dotted: the floor, what needs "
                "no memory of what belongs where.",
                kind="lines",
                x_title="distance (tokens)",
                x_called="distance",
                x_scale="log",
                y_title="accuracy",
                unit="accuracy",
                series=["model", "floor"],
                points=[
                    point
                    for s in far
                    for x in [math.sqrt(max(1, s.first) * max(1, s.last))]
                    for point in (
                        FigurePoint(x=x, y=s.accuracy, series="model"),
                        FigurePoint(x=x, y=s.floor, series="floor"),
                    )
                ],
            )
        ]

    def sentences(self, values: Answers) -> list[str]:
        floors = {"one of all answers": values.uniform_floor, "one of those in the sequence": values.bag_floor}
        known = [f"{what} {floor:.1%}" for what, floor in floors.items() if floor is not None]
        known += [f"{name} table {accuracy:.1%}" for name, accuracy in values.controls.items()]
        trained = "" if values.training_accuracy is None else f"; in training {values.training_accuracy:.1%}"
        lines = [
            f"{values.right:,} of {values.answers:,} answers right, {values.accuracy:.1%} (95% interval over "
            f"{values.sequences:,} sequences {values.low:.1%} to {values.high:.1%}){trained}; without memory: "
            f"{', '.join(known)}."
        ]
        own = max([0.0, *(floor for floor in floors.values() if floor is not None)])
        shortcuts = [name for name, accuracy in values.controls.items() if accuracy > own + 0.05]
        if shortcuts and values.uniform_floor is not None:
            lines.append(
                f"A table of the last tokens alone answers {values.controls[shortcuts[-1]]:.1%}: so much of this task "
                "can be had without memory."
            )
        if values.half_distance is not None:
            lines.append(
                f"From {values.half_distance} tokens back on it recalls less than half of what it does nearby."
            )
        return lines


def _answered(right: np.ndarray, targets: np.ndarray, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """[N, C] which answers are right, and where there is one.

    Where a sequence has one answer of several tokens it stands at the first, and is right where all of them are.
    """
    asked = targets != IGNORED
    if not whole:
        return right, asked
    first = asked & (np.cumsum(asked, axis=1) == 1)
    return np.broadcast_to((right | ~asked).all(axis=1)[:, None], right.shape), first


def half_distance(stretches: Sequence[Stretch]) -> int | None:
    """The first distance from which on no stretch reaches half of the nearest one's accuracy above the floor.

    None where the last stretch still does, or where not even the nearest lies above its floor.
    """
    far = [stretch for stretch in stretches if stretch.axis == "distance"]
    if not far or far[0].low <= far[0].floor:
        return None
    above = [stretch.accuracy - stretch.floor >= (far[0].accuracy - far[0].floor) / 2 for stretch in far]
    return None if above[-1] else far[len(above) - above[::-1].index(True)].first


def _stretches(right: np.ndarray, asked: np.ndarray, questions: Questions) -> Iterator[Stretch]:
    """Those of the distance, then of each difficulty, which take every value of it or stretches that grow."""
    axes = {"distance": questions.distance, **questions.difficulty}
    floor = np.maximum(questions.uniform, questions.bag)
    for axis, values in axes.items():
        known = asked & (values > EVERYTHING)
        for first, last in _edges(np.unique(values[known])):
            here = known & (values >= first) & (values <= last)
            if here.sum() < FEWEST:
                continue
            rows = here.any(axis=1)
            share = share_interval((right & here).sum(1)[rows].tolist(), here.sum(1)[rows].tolist())
            yield Stretch(
                axis=axis,
                first=first,
                last=last,
                answers=int(here.sum()),
                accuracy=share.mean,
                low=share.low,
                high=share.high,
                floor=float(floor[here].mean()),
            )


def _edges(values: np.ndarray) -> list[tuple[int, int]]:
    """Every value by itself where there are up to 24; else stretches that end at 1, 2, 3, 4, 6, 8, 12, 16, 24, ..."""
    if len(values) <= 24:
        return [(int(value), int(value)) for value in values]
    ends = sorted({0, 1, *(share << power for share in (2, 3) for power in range(40))})
    stretches = []
    for before, end in zip([-1, *ends], ends, strict=False):
        inside = values[(values > before) & (values <= end)]
        if len(inside):
            stretches.append((int(inside[0]), int(inside[-1])))
    return stretches


register(MeasureAnswers())
