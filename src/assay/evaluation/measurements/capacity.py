"""How many things a trained model holds at once: its own task again, with more and more of them to be remembered."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from assay.analysis.intervals.proportions import share_interval
from assay.data.task import TaskDataset
from assay.errors import RequestError
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.evaluation.measurements.answers import RightAnswers
from assay.evaluation.scoring import scored_batches
from assay.model.accounting import count_state_bytes
from assay.records import Column, FigurePoint, MeasuredFigure, Record, Split
from assay.targets import IGNORED

RECALLED = 0.9
"""From this accuracy on so many things count as recalled, where guessing does not reach it."""
ANSWERS = 1_000
"""So many are asked for at each number of things; fewer where a sequence is long and asks for little."""


class Load(Record):
    """The answers where so many things are to be remembered; the interval is of 95%, over sequences."""

    things: int
    answers: int
    sequences: int
    accuracy: float
    low: float
    high: float
    floor: float | None
    """What needs no memory of what belongs where; None where the task does not say."""
    bits_recalled: float
    """Per sequence: the sum of (chance nats - nats) / ln 2, at least 0."""


class Capacity(Record):
    """Accuracy against the number of things, of one trained model."""

    split: Split
    axis: str
    """The task's axis that sets the number."""
    trained_with: int | None
    """What the run was trained with; None where the axis left it to the context."""
    loads: list[Load]
    recalled: int
    """The largest number that is recalled; 0 where none is."""
    bits_recalled: float
    """At the number where they are most."""
    state_bytes: int


class MeasureCapacity(Measurement[Capacity]):
    """The task's held-out sequences with 1, 2, 3, 4, 6, 8, 12, ... things, as many as context and vocabulary allow."""

    name = "capacity"
    question = "How many things does the model hold at once?"
    unit = "things recalled"
    group = "memory"
    needs = frozenset({"trained", "capacity"})
    record = Capacity

    def measure(self, given: Given, readers: Sequence[Reader]) -> Capacity:
        task = given.task
        assert task is not None
        axis = capacity_axis(task)
        context = given.held_out.inputs.shape[1]
        loads = [_load(given, things, of) for things, of in with_things(task, axis, context)]
        if not loads:
            raise RequestError(f"capacity of {task.name}: no number of {axis} fits the context of {context} tokens")
        return Capacity(
            split=given.split,
            axis=axis,
            trained_with=getattr(task.axes, axis),
            loads=loads,
            recalled=recalled(loads),
            bits_recalled=max(load.bits_recalled for load in loads),
            state_bytes=count_state_bytes(given.trained, context, given.plan.bytes_per_element),
        )

    def columns(self, values: Capacity) -> list[Column]:
        per_byte = values.bits_recalled / values.state_bytes if values.state_bytes else None
        return [
            Column(key="recalled", head="recalled", second=f"{values.axis} at {RECALLED:.0%}", format="count",
                   value=values.recalled, better="higher", spread="range"),
            Column(key="bits", head="bits recalled", second="at most", format="number", value=values.bits_recalled,
                   better="higher"),
            Column(key="bits_per_byte", head="bits recalled", second="a state byte", format="number", value=per_byte,
                   better="higher"),
        ]  # fmt: skip

    def figures(self, values: Capacity) -> list[MeasuredFigure]:
        points = []
        for load in values.loads:
            points.append(FigurePoint(x=load.things, y=load.accuracy, series="model"))
            if load.floor is not None:
                points.append(FigurePoint(x=load.things, y=load.floor, series="floor"))
        return [
            MeasuredFigure(
                name="capacity",
                title="Accuracy by how much is to be remembered",
                caption=f"The same weights on their task with other {values.axis}. Dotted: the floor, what needs no "
                "memory of what belongs where.",
                kind="lines",
                x_title=values.axis,
                x_called=values.axis,
                x_scale="log",
                y_title="accuracy",
                unit="accuracy",
                series=["model", "floor"],
                points=points,
            )
        ]

    def sentences(self, values: Capacity) -> list[str]:
        first, last = values.loads[0], values.loads[-1]
        trained = "" if values.trained_with is None else f"; trained with {values.trained_with}"
        asked = f"{values.axis} from {first.things} to {last.things}{trained}"
        if values.recalled == 0:
            return [f"{asked}: none is recalled at {RECALLED:.0%} and above its floor."]
        load = next(load for load in values.loads if load.things == values.recalled)
        most = ", the most that fit, so that it may hold more" if load is last else ""
        return [
            f"{asked}: {load.things} are recalled at {load.accuracy:.1%} (95% interval over {load.sequences:,} "
            f"sequences {load.low:.1%} to {load.high:.1%}){most}."
        ]


def capacity_axis(task: TaskDataset) -> str:
    """The axis of `task` that says how many things are to be remembered; a RequestError where it has none."""
    axis = task.task.capacity
    if axis is None or axis not in task.task.axes.model_fields:
        there = ", ".join(task.task.axes.model_fields)
        raise RequestError(f"task {task.task.name}: capacity is {axis!r}; one of its axes would do (there is {there})")
    return axis


def with_things(task: TaskDataset, axis: str, context: int) -> Iterator[tuple[int, TaskDataset]]:
    """(n, the task with n on the axis) for n = 1, 2, 3, 4, 6, 8, 12, ... and the number of training, where n fits.

    It fits where the task takes it, a sequence is no longer than the context, and the ids are those of the run.
    """
    own = getattr(task.axes, axis)
    numbers = {1, *(share << power for share in (2, 3) for power in range(context.bit_length()))}
    for things in sorted(numbers | ({own} if own is not None else set())):
        try:
            axes = task.task.axes.parse({**task.axes.model_dump(), axis: things})
        except RequestError:
            continue
        of = dataclasses.replace(task, axes=axes)
        if task.task.shortest(axes) <= context and of.vocab_size == task.vocab_size:
            yield things, of


def recalled(loads: Sequence[Load]) -> int:
    """The largest number of things that are answered right often enough, and more often than guessing would be."""
    enough = [load for load in loads if load.accuracy >= RECALLED and load.low > (load.floor or 0.0)]
    return max((load.things for load in enough), default=0)


def _load(given: Given, things: int, task: TaskDataset) -> Load:
    windows = task.held_out(given.split, given.held_out.inputs.shape[1], ANSWERS)
    reader = RightAnswers(windows)
    for batch in scored_batches(given.trained, windows, given.plan):
        reader.read(batch)
    asked = windows.targets != IGNORED
    answers = asked.sum(axis=1)
    share = share_interval((reader.right & asked).sum(axis=1).tolist(), answers.tolist())
    questions = task.questions(windows)
    beyond_chance = task.task.chance_nats(task.axes) * answers - reader.nats.sum(axis=1)
    return Load(
        things=things,
        answers=int(answers.sum()),
        sequences=len(answers),
        accuracy=share.mean,
        low=share.low,
        high=share.high,
        floor=None if questions is None else float(np.maximum(questions.uniform, questions.bag)[asked].mean()),
        bits_recalled=max(0.0, float(beyond_chance.mean()) / math.log(2)),
    )


register(MeasureCapacity())
