"""How training went: loss spikes, gradient norms, and what became of the stream and the states along it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from assay.evaluation.inside.sequences import Sequences
from assay.evaluation.inside.spikes import spikes
from assay.evaluation.inside.states import recurrent_parts
from assay.evaluation.inside.stream import read_stream
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Column, FigurePoint, MeasuredFigure, Record
from assay.seeding import derive

NAME = "dynamics"
OBSERVED = 20
"""Times that the model is looked at while it is trained."""
ROWS, TOKENS = 4, 64
"""Of the random ids that it is looked at on."""


class LossSpike(Record):
    """Successive steps whose loss was far above those before."""

    first_step: int
    steps: int
    height_nats: float


class CoursePoint(Record):
    """What the model was like after so many steps, on random ids."""

    step: int
    growth: float
    """Std of the stream after the last block over that after the first."""
    growth_with_embedding: float
    stream_std: float
    """After the last block."""
    state_rms: float | None
    """The median over recurrent tensors; None where there are none."""


class Dynamics(Record):
    """Of one training; no steps where nothing is known of it."""

    steps: int
    spikes: list[LossSpike]
    gradient_norm_median: float | None
    gradient_norm_highest: float | None
    clipped: float | None
    """Share of the steps whose gradient was scaled down."""
    course: list[CoursePoint]
    """Empty where nobody observed the training."""


class CourseObserver:
    """Looks at the stream and the states on the same random ids each time; it has no text."""

    name = NAME

    def __init__(self, steps: int) -> None:
        self.interval = max(1, steps // OBSERVED)

    def observe(self, model: LanguageModel, step: int) -> Mapping[str, Any]:
        tokens = min(TOKENS, model.max_positions or TOKENS)
        draw = np.random.default_rng(derive(0, NAME))
        ids = draw.integers(0, model.vocab_size, (ROWS, tokens))
        weight = model.head_weight
        plan = ExecutionPlan(
            device=str(weight.device), precision="float32", compile=False, op_form="chunked", chunk_length=64, threads=1
        )  # for its device alone: forms and threads are the run's
        stream = read_stream(model, Sequences(ids, np.arange(ROWS)), plan)
        first, last = (stream.moments[f"{block}.out"].std for block in (0, len(model.blocks) - 1))
        embedded = stream.moments["embedding"].std
        _, state = model.hidden(torch.from_numpy(ids).to(weight.device))
        sizes = [
            float(tensor.double().square().mean().sqrt())
            for block, of in enumerate(state.blocks)
            for _, tensor in recurrent_parts(of, block)
        ]
        return {
            "growth": last / first if first else 1.0,
            "growth_with_embedding": last / embedded if embedded else 1.0,
            "stream_std": last,
            "state_rms": statistics.median(sizes) if sizes else None,
        }


class MeasureDynamics(Measurement[Dynamics]):
    """Spikes and norms from the steps of a run, also of one that ended; the course where it was observed."""

    name = NAME
    question = "How steady was training, and how did the stream and the states grow along it?"
    unit = "spikes"
    group = "character"
    needs = frozenset({"course", "trained"})
    needs_all = False
    record = Dynamics

    def observer(self, steps: int) -> CourseObserver:
        return CourseObserver(steps)

    def measure(self, given: Given, readers: Sequence[Reader]) -> Dynamics:
        losses = [float(row["nats_per_token"]) for row in given.steps]
        norms = [float(row["gradient_norm"]) for row in given.steps]
        limit = None if given.protocol is None else given.protocol.clip_norm
        return Dynamics(
            steps=len(losses),
            spikes=[
                LossSpike(first_step=of.first, steps=of.steps, height_nats=of.height_nats) for of in spikes(losses)
            ],
            gradient_norm_median=statistics.median(norms) if norms else None,
            gradient_norm_highest=max(norms, default=None),
            clipped=None if limit is None or not norms else float(np.mean([norm > limit for norm in norms])),
            course=[CoursePoint.model_validate(dict(row)) for row in given.courses.get(NAME, ())],
        )

    def columns(self, values: Dynamics) -> list[Column]:
        known = values.steps > 0
        return [
            Column(
                key="spikes", head="loss spikes", format="count", value=float(len(values.spikes)) if known else None
            ),
            Column(
                key="highest_norm",
                spread="range",
                head="gradient",
                second="highest/median",
                format="ratio",
                value=values.gradient_norm_highest / values.gradient_norm_median
                if values.gradient_norm_highest is not None and values.gradient_norm_median
                else None,
            ),
        ]

    def figures(self, values: Dynamics) -> list[MeasuredFigure]:
        kinds = {"growth": "growth of the stream", "state_rms": "RMS of the states"}
        points = [
            FigurePoint(x=point.step, y=value, series=called)
            for name, called in kinds.items()
            for point in values.course
            if (value := getattr(point, name)) is not None and value > 0
        ]
        if not points:
            return []
        return [
            MeasuredFigure(
                name="course",
                title="Stream and states along training",
                caption="On the same random ids each time: growth from the first block to the last, and the median "
                "RMS of recurrent states.",
                kind="lines",
                x_title="steps",
                x_called="step",
                y_title="ratio, RMS (log scale)",
                y_scale="log",
                unit="ratio",
                series=list(kinds.values()),
                series_called="what",
                points=points,
            )
        ]

    def sentences(self, values: Dynamics) -> list[str]:
        if not values.steps:
            return ["Nothing is known of the steps of its training."]
        if not values.spikes:
            return []
        highest = max(values.spikes, key=lambda spike: spike.height_nats)
        number = f"{len(values.spikes)} loss spike{'s' if len(values.spikes) > 1 else ''}"
        return [
            f"{number} in {values.steps:,} steps, the highest at step {highest.first_step:,}: "
            f"{highest.height_nats:.2f} nats above the median of the 50 steps before."
        ]


register(MeasureDynamics())
