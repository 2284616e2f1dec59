"""A gate as the user asks for it: candidates, baseline, budget, rule, and the protocol of its runs."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from assay.analysis.gate.needs import further_measurements, memory_tasks
from assay.analysis.gate.rule import GateRule
from assay.config import digest_of
from assay.errors import RequestError
from assay.parsing import parse_number
from assay.records.gate import MemoryKind
from assay.study.arm import ArmConfig
from assay.study.asked import StudyConfig

TOKENS_PER_PARAMETER = 20.0
"""Where compute is spent best, about (Hoffmann et al. 2022)."""
RATES = (3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2)
BATCH_TOKENS = 1_024
DECAY_SHARE = 1.0
"""Weight decay forgets over so many lengths of the run at the full learning rate (Wang & Aitchison 2024): the decay of
a run is 1 / (share x rate x steps), so that neither a longer run nor another rate decays more."""
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PLACEBO, CONTROL = "placebo", "half"


@dataclass(frozen=True)
class Budget:
    """Seconds on this machine, or training FLOPs."""

    seconds: float | None
    flops: float | None
    text: str


@dataclass(frozen=True)
class GateRequest:
    """What is asked; `study` has the protocol and no arms of its own that count."""

    candidates: Sequence[ArmConfig]
    baseline: ArmConfig
    study: StudyConfig
    rule: GateRule
    budget: Budget | None = None
    sizes: Sequence[int] = ()
    """Empty: the budget chooses them."""
    seeds: int | None = None
    rates: Sequence[float] = RATES
    tokens_per_parameter: float = TOKENS_PER_PARAMETER
    placebo: bool = False
    memory: bool = False
    """Whether memory is measured even where the rule does not ask for it."""

    def __post_init__(self) -> None:
        labels = [self.baseline.label, *(arm.label for arm in self.candidates)]
        for arm in self.candidates:
            if _numbers(arm) == _numbers(self.baseline):
                raise RequestError(
                    f"{arm.label}: is the baseline {self.baseline.label} itself; another arm, or --placebo to judge "
                    "the baseline against itself, would do"
                )
        if repeated := [label for label in labels if labels.count(label) > 1]:
            raise RequestError(f"{repeated[0]}: stands twice; a name of its own, as in mine={repeated[0]}, would do")
        for arm in [self.baseline, *self.candidates]:
            if arm.size is not None or "learning_rate" in arm.training or "weight_decay" in arm.training:
                fixed = "size" if arm.size is not None else "learning rate or weight decay"
                raise RequestError(
                    f"{arm.label}: fixes its {fixed}; the gate chooses that for all alike, so leave it out"
                )
            if self.placebo and arm.label in (PLACEBO, CONTROL):
                raise RequestError(f"{arm.label}: --placebo has an arm of that name; another name would do")
        if self.study.evaluation.split != "test":
            raise RequestError(
                f"evaluation.split {self.study.evaluation.split}: a gate is judged on test; leave it out"
            )
        if self.study.training.branches:
            raise RequestError(
                f"training.branches {self.study.training.branches}: the tokens of a gate's runs go by their size, and "
                "under wsd budgets of a quarter and a half of them branch by themselves; leave it out"
            )
        if len(self.rates) < 3:
            raise RequestError(f"--lr: {len(self.rates)} rates given; a gate tunes over three or more, as 1e-3..1e-2")
        if not self.budget and not self.sizes:
            raise RequestError("--budget: missing; 8h, or --sizes 0.25M,0.5M,1M in its place, would do")
        if len(self.sizes) == 1:
            raise RequestError(f"--sizes {self.sizes[0]}: a gate needs two or more, as the gain is read along them")
        if len(set(self.sizes)) < len(self.sizes):
            raise RequestError(f"--sizes {', '.join(map(str, self.sizes))}: a size stands twice; each once would do")
        if not 0 < self.tokens_per_parameter < math.inf:
            raise RequestError(
                f"--tokens-per-parameter {self.tokens_per_parameter:g}: a number above zero is needed, as in 20"
            )
        if len(set(self.rates)) < len(self.rates):
            raise RequestError(f"--lr: {_twice(self.rates):g} stands twice; each rate once would do")
        if self.seeds is not None and self.seeds < 2:
            raise RequestError(f"--seeds {self.seeds}: two or more are needed, as one has no spread")

    def memory_tasks(self) -> list[MemoryKind]:
        """The memory stages that the rule needs, or all."""
        return memory_tasks(self.rule, self.memory)

    def further_measurements(self) -> list[str]:
        """What is measured of the runs at the largest size because the rule asks for it, or all of it."""
        return further_measurements(self.rule, self.memory)

    def identity(self) -> str:
        """A hash of all that is asked but for the rule, which may judge the same runs again."""
        return digest_of(
            {
                "arms": [_numbers(arm) for arm in (self.baseline, *self.candidates)],
                "study": self.study.identity(),
                "budget": self.budget.text if self.budget else None,
                "sizes": list(self.sizes),
                "seeds": self.seeds,
                "rates": list(self.rates),
                "tokens_per_parameter": self.tokens_per_parameter,
                "placebo": self.placebo,
                "memory": self.memory,
            }
        )


def _twice(rates: Sequence[float]) -> float:
    return next(rate for at, rate in enumerate(rates) if rate in rates[:at])


def _numbers(arm: ArmConfig) -> dict[str, object]:
    """What decides its numbers: all but its label."""
    return {name: value for name, value in arm.departures().items() if name != "label"}


def parse_budget(text: str) -> Budget:
    """Read 30m, 8h, 1.5d or 1e15flops."""
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(s|m|h|d|flops?)\s*", text, re.IGNORECASE)
    number = parse_number(match[1]) if match else None
    if match is None or number is None or not 0 < number < math.inf:
        raise RequestError(f"--budget {text}: a time (30m, 8h, 1.5d) or an amount of work (1e15flops) is needed")
    unit = match[2].lower()
    if unit.startswith("flop"):
        return Budget(None, float(number), f"{number:g}flops")
    return Budget(number * UNITS[unit], None, f"{number:g}{unit}")
