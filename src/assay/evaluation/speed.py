"""Training speed, apart from training: all models in short bursts by turns, so that other load hits all alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from assay.data.batches import Batch
from assay.evaluation.generators import generators_put_back
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Speed
from assay.seeding import derive
from assay.training.config import TrainingConfig
from assay.training.objective import Objective
from assay.training.optim import build_optimizer
from assay.training.step import micro_batches, take_step

ROUNDS = 5
BURST_SECONDS = 0.3
"""A burst is as many whole steps as come nearest to this, at least one."""


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
    """Train each model for one burst a round, in turns: forward, backward, clipping and AdamW, on random ids.

    All models are alive at once, with their optimizers. Afterwards they are gone, and torch's threads and the global
    generators are as they were. `tell` hears of what makes a figure doubtful.
    """
    threads = torch.get_num_threads()
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
        self.optimizer = build_optimizer(self.model, self.training)
        if plan.compile:
            self.objective.compile()
        self.step = 0
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
        )

    def doubts(self) -> Iterator[str]:
        """What makes the figure doubtful."""
        speed = self.speed()
        if speed.unsteady:
            yield f"unsteady, {speed.low:,.0f} to {speed.high:,.0f} tokens/s; is the machine busy?"
        if not self.finite:
            yield "a loss was not finite, and such a step leaves out AdamW"

    def _train(self, steps: int) -> float:
        """Seconds that so many steps take; their batches are made before the clock starts."""
        numbers = range(self.step, self.step + steps)
        batches = [self._batch(number) for number in numbers]
        _synchronise(self.plan.device)
        started = self.clock()
        for number, batch in zip(numbers, batches, strict=True):
            # Past its end a short training begins again: its learning rates are defined no further.
            step = number % self.training.steps
            parts = micro_batches(batch, self.training, self.plan.device, self.seed, step)
            taken = take_step(self.objective, self.optimizer, parts, batch.scored, self.training, step)
            self.finite = self.finite and taken.finite
        _synchronise(self.plan.device)
        seconds = self.clock() - started
        self.step += steps
        return seconds

    def _batch(self, step: int) -> Batch:
        """Random ids, the same for all models of a vocabulary and a shape."""
        generator = np.random.Generator(np.random.PCG64(derive(self.seed, "speed", step)))
        shape = (self.training.batch_size, self.training.context + 1)
        ids = generator.integers(self.model.vocab_size, size=shape, dtype=np.int64)
        return Batch(ids[:, :-1], ids[:, 1:])


def _synchronise(device: str) -> None:
    """Wait until the device has done what it was given; a processor always has."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
