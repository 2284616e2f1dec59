"""How fast each arm trains at a size, from short runs, as many at a time as the gate will have."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.gating.asked import CONTROL, PLACEBO, GateRequest
from assay.gating.layout import Cost
from assay.gating.memory import possible_tasks, untuned_study
from assay.gating.stages import arms_of, carry_out_runs, study_of
from assay.model.accounting import count_flops
from assay.model.sizing import build_on_meta
from assay.records import MeasuredRun
from assay.records.gate import MemoryKind, Stage, Timing
from assay.study.asked import StudyConfig
from assay.study.compare import Listener
from assay.study.resolve import resolve
from assay.training.loop import StepEvent

TIMED_STEPS = 12
TIMED_SEED = 30_000
NEAR = 1.5
"""A memory task that was timed at a size is not timed again at one within this factor: its questions cost alike."""
TIMING, TIMINGS = ".timing", "timings.json"
"""In the folder of a gate: the timed runs while they last, and what they showed."""


class Clock:
    """A listener of runs that notes how long each took, and passes on what must be said."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def message(self, text: str) -> None:
        pass

    def notice(self, text: str) -> None:
        self.listener.notice(text)

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        self.began[name] = time.monotonic()

    def step(self, name: str, event: StepEvent) -> None:
        pass

    def run_finished(self, name: str, run: MeasuredRun) -> None:
        self.seconds[name] = time.monotonic() - self.began[name]


class Times:
    """What runs of each arm cost at any size: measured at some, read between and beyond them on a log-log line."""

    def __init__(self, request: GateRequest, base: StudyConfig, listener: Listener, workers: int, folder: Path) -> None:
        """Runs are made in `folder`, and removed."""
        self.request, self.base, self.listener, self.workers = request, base, listener, workers
        self.place = folder / TIMING
        self.timed: dict[tuple[str, MemoryKind | None, int], Timing] = {}
        """(arm, what it was trained on, size) -> how fast; None is the gate's text."""
        self.flops: dict[tuple[str, MemoryKind | None, int], int] = {}

    def measure(self, sizes: Sequence[int], arms: Sequence[str]) -> None:
        """Time `arms` at those of `sizes` that were not timed yet."""
        for size in sizes:
            missing = [arm for arm in arms if (arm, None, size) not in self.timed]
            if missing:
                self.listener.message(f"timing {', '.join(missing)} at {size:,}")
                self._measure(self._on_text(size, missing), size, None)

    def measure_memory(self, kinds: Sequence[MemoryKind], size: int, arms: Sequence[str]) -> None:
        """Time `arms` on those memory tasks that all of them can have and that were not timed near this size."""
        known = {label: arm for label, arm in arms_of(self.request).items() if label in arms}
        for kind in possible_tasks(kinds, known, size, self.base, lambda _: None):
            near = [of for _, task, of in self.timed if task == kind and size / NEAR <= of <= size * NEAR]
            if not near:
                self.listener.message(f"timing {kind} of {', '.join(known)} at {size:,}")
                config = untuned_study(kind, TIMED_STEPS, known, TIMED_SEED, size, self.base)
                self._measure(config, size, kind)

    def _on_text(self, size: int, arms: Sequence[str]) -> StudyConfig:
        tokens = TIMED_STEPS * self.base.training.batch_tokens
        stage = Stage(
            name="timing", kind="pilot", size=size, tokens=tokens, arms=list(arms), seeds=[TIMED_SEED], flops=0,
            seconds=0,
        )  # fmt: skip
        return study_of(self.request, stage, {arm: [self.base.training.learning_rate] for arm in arms}, self.base)

    def _measure(self, config: StudyConfig, size: int, task: MemoryKind | None) -> None:
        # The very first run also reads the text and fills caches, which later ones do not.
        for _ in range(1 if self.timed else 2):
            clock = Clock(self.listener)
            shutil.rmtree(self.place, ignore_errors=True)
            try:
                runs = carry_out_runs(config, self.place, clock, self.workers)
            finally:
                shutil.rmtree(self.place, ignore_errors=True)
        for run in runs:
            record = run.record
            each = 1 / record.train_tokens_per_second
            took = clock.seconds[f"{record.label}-seed{TIMED_SEED}"]
            self.timed[record.label, task, size] = Timing(
                arm=record.label,
                size=size,
                task=task,
                seconds_per_token=each,
                start_seconds=max(0.0, took - each * record.tokens),
                peak_memory_bytes=record.peak_memory_bytes,
            )
            self.flops[record.label, task, size] = record.flops_per_token.training

    def cost(self, arm: str, size: int, tokens: int, task: MemoryKind | None = None) -> Cost:
        """Of one run of `arm` that reads `tokens` of the text, or of a task, by the text's timing till it is timed."""
        arm = self.request.baseline.label if arm in (PLACEBO, CONTROL) else arm
        timed = {of: time for (name, on, of), time in self.timed.items() if (name, on) == (arm, task)}
        if not timed:
            return self.cost(arm, size, tokens)
        per_token = _read({of: time.seconds_per_token for of, time in timed.items()}, size)
        start = _read({of: time.start_seconds + 1e-3 for of, time in timed.items()}, size)
        return Cost(start + tokens * per_token, float(tokens) * self._flops(arm, task, size))

    def _flops(self, arm: str, task: MemoryKind | None, size: int) -> int:
        """Of training, for each token."""
        if (arm, task, size) not in self.flops:
            of = arms_of(self.request)[arm]
            config = self.base.model_copy(update={"arms": [of], "size": size, "sizes": [], "seeds": [0]})
            if task is not None:
                config = untuned_study(task, 1, {arm: of}, 0, size, self.base)
            found = resolve(config, lambda _: None).arms[0]
            self.flops[arm, task, size] = count_flops(
                build_on_meta(found.architecture, found.config), config.training.context
            ).training
        return self.flops[arm, task, size]

    def restore(self, timings: Sequence[Timing]) -> None:
        """Take over what was timed before."""
        self.timed = {(timing.arm, timing.task, timing.size): timing for timing in timings}

    def all(self) -> list[Timing]:
        """Every timing, arm by arm, the text before tasks."""
        return sorted(self.timed.values(), key=lambda timing: (timing.arm, timing.task or "", timing.size))

    def of(self, sizes: Sequence[int]) -> list[Timing]:
        """The timings on text at these sizes, and those of tasks."""
        return [timing for timing in self.all() if timing.task is not None or timing.size in sizes]


def _read(known: Mapping[int, float], size: int) -> float:
    """The value at `size` on a line through the logarithms of the two nearest known ones."""
    sizes = sorted(known)
    if size in known or len(sizes) == 1:
        return known.get(size, known[sizes[0]])
    above = next((index for index, of in enumerate(sizes) if of > size), len(sizes) - 1)
    low, high = sizes[max(0, above - 1)], sizes[max(1, above)]
    share = math.log(size / low) / math.log(high / low)
    return float(known[low] * (known[high] / known[low]) ** share)
