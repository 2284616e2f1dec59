"""Training speed, apart from training: all models in short bursts by turns, so that other load hits all alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from assay.analysis.wording import join_names
from assay.data.batches import Batch
from assay.evaluation.generators import generators_put_back
from assay.evaluation.measurement import GivenStudy, StudyMeasurement, register
from assay.evaluation.turns import groups_in_memory, same_work, synchronise
from assay.model.architecture import build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Column, Record
from assay.seeding import derive
from assay.training.compiled import UNCOMPILED, compile_objective, forget_compiled_code
from assay.training.config import TrainingConfig
from assay.training.memory import available_bytes
from assay.training.native import prepare_ops
from assay.training.objective import Objective
from assay.training.optim import build_optimizer
from assay.training.step import MicroBatch, micro_batches, take_step

ROUNDS = 5
BURST_SECONDS = 0.3
"""A burst is as many whole steps as come nearest to this, at least one."""


UNSTEADY = 1.5
"""Where the fastest round is so many times as fast as the slowest, the machine was busy and the median says little."""


class Speed(Record):
    """Training steps of one arm in short bursts that alternate with those of the others: median and range."""

    tokens_per_second: float
    """The median over rounds."""
    low: float
    high: float
    rounds: int
    steps_per_round: int
    threads: int
    device: str
    precision: str
    compiled: str | None = None
    """How torch compiled the objective; None in older records, which do not say."""

    @property
    def unsteady(self) -> bool:
        """Whether the rounds differ too much for the median to be relied on."""
        return self.high / self.low > UNSTEADY


class Speeds(Record):
    """Of every arm, by label."""

    arms: dict[str, Speed]


class MeasureSpeed(StudyMeasurement[Speeds]):
    """All arms in one process after training; arms that are alike only once."""

    name = "speed"
    question = "How many tokens a second does each arm train on, all taking turns?"
    unit = "tokens per second"
    group = "speed"
    rests_on = "arms"
    timed = True
    record = Speeds

    def measure(self, given: GivenStudy) -> Speeds:
        """Arms take turns as far as memory holds them at once, else group by group."""
        first = {same_work(arm): arm for arm in reversed(given.arms)}
        speeds: dict[str, Speed] = {}
        for group in groups_in_memory(list(reversed(first.values())), available_bytes()):
            given.tell(f"speed of {', '.join(arm.label for arm in group)}")
            trainees = {
                arm.label: Trainee(partial(build_model, arm.architecture, arm.config, given.seed), arm.training)
                for arm in group
            }
            speeds |= measure_speeds(trainees, given.plan, given.tell, given.seed)
        return Speeds(arms={arm.label: speeds[first[same_work(arm)].label] for arm in given.arms})

    def columns(self, values: Speeds) -> list[Column]:
        return [
            Column(
                key="speed",
                head="speed",
                second="range",
                format="rate",
                value=speed.tokens_per_second,
                low=speed.low,
                high=speed.high,
                better="higher",
                arm=label,
            )
            for label, speed in values.arms.items()
        ]

    def sentences(self, values: Speeds) -> list[str]:
        """Speeds that something else disturbed."""
        unsteady = [
            f"{label} ({speed.low:,.0f} to {speed.high:,.0f} tokens/s)"
            for label, speed in values.arms.items()
            if speed.unsteady
        ]
        if not unsteady:
            return []
        return [f"Speed is not to be trusted, as something else used the machine: {join_names(unsteady)}."]


class Trainee(NamedTuple):
    """How to get a fresh model, and how it is to be trained; the model is thrown away."""

    build: Callable[[], LanguageModel]
    training: TrainingConfig


def measure_speeds(
    trainees: Mapping[str, Trainee],
    plan: ExecutionPlan,
    tell: Callable[[str], None],
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Speed]:
    """Train each model for one burst a round, in turns: forward, backward, clipping and optimizer, on random ids.

    All models are alive at once, with their optimizers. Afterwards they are gone, and torch's threads and the global
    generators are as they were. `tell` hears of what makes a figure doubtful.
    """
    threads = torch.get_num_threads()
    forget_compiled_code()
    try:
        with generators_put_back():
            bursts = {name: _Bursts(trainee, plan, seed, clock) for name, trainee in trainees.items()}
            for _ in range(ROUNDS):
                for burst in bursts.values():
                    burst.go()
    finally:
        torch.set_num_threads(threads)
    for name, burst in bursts.items():
        for doubt in burst.doubts():
            tell(f"speed of {name}: {doubt}")
    return {name: burst.speed() for name, burst in bursts.items()}


class _Bursts:
    """One model, trained in bursts of equal length from its first step on, and what they took."""

    def __init__(self, trainee: Trainee, plan: ExecutionPlan, seed: int, clock: Callable[[], float]) -> None:
        self.model = plan.apply(trainee.build())
        self.training = trainee.training
        self.plan = plan
        self.seed = seed
        self.clock = clock
        self.objective = Objective(self.model, plan)
        self.optimizer = build_optimizer(self.model, self.training, plan.native)
        self.step = 0
        self.compiled = UNCOMPILED
        prepare_ops(self.model, plan, self.training.optimizer)
        if plan.compile:
            self.compiled = compile_objective(self.objective, self._parts(self._batch(0), 0)[0])
        self.finite = True
        self.seconds: list[float] = []
        self._train(1)  # compiles, fills caches, allocates the optimizer's moments
        self.steps = max(1, round(BURST_SECONDS / self._train(1)))

    def go(self) -> None:
        """One burst."""
        self.seconds.append(self._train(self.steps))

    def speed(self) -> Speed:
        tokens = self.steps * self.training.batch_tokens
        return Speed(
            tokens_per_second=tokens / statistics.median(self.seconds),
            low=tokens / max(self.seconds),
            high=tokens / min(self.seconds),
            rounds=len(self.seconds),
            steps_per_round=self.steps,
            threads=self.plan.threads,
            device=self.plan.device,
            precision=self.plan.precision,
            compiled=self.compiled,
        )

    def doubts(self) -> Iterator[str]:
        """What makes the figure doubtful."""
        speed = self.speed()
        if speed.unsteady:
            yield f"unsteady, {speed.low:,.0f} to {speed.high:,.0f} tokens/s; is the machine busy?"
        if not self.finite:
            yield "a loss was not finite, and such a step leaves out the optimizer"

    def _train(self, steps: int) -> float:
        """Seconds that so many steps take; their batches are made before the clock starts."""
        numbers = range(self.step, self.step + steps)
        batches = [self._batch(number) for number in numbers]
        synchronise(self.plan.device)
        started = self.clock()
        for number, batch in zip(numbers, batches, strict=True):
            # Past its end a short training begins again: its learning rates are defined no further.
            step = number % self.training.steps
            parts = self._parts(batch, step)
            taken = take_step(self.objective, self.optimizer, parts, batch.scored, self.training, step)
            self.finite = self.finite and taken.finite
        synchronise(self.plan.device)
        seconds = self.clock() - started
        self.step += steps
        return seconds

    def _parts(self, batch: Batch, step: int) -> list[MicroBatch]:
        return micro_batches(batch, self.training, self.plan.device, self.seed, step)

    def _batch(self, step: int) -> Batch:
        """Random ids, the same for all models of a vocabulary and a shape."""
        generator = np.random.Generator(np.random.PCG64(derive(self.seed, "speed", step)))
        shape = (self.training.batch_size, self.training.context + 1)
        ids = generator.integers(self.model.vocab_size, size=shape, dtype=np.int64)
        return Batch(ids[:, :-1], ids[:, 1:])


register(MeasureSpeed())
