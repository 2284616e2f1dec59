"""How a study is judged and tuned, written before its runs: keys of the study, read by its headline."""

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from assay.analysis.statistics import LEVEL
from assay.config import Config


class Rule(Config):
    """When a difference between two arms counts."""

    section: ClassVar[str] = "rule"
    flags: ClassVar[Mapping[str, str]] = {"baseline": "--baseline", "looks": "--looks"}

    primary: Literal["nats_per_token"] = "nats_per_token"
    """What decides: paired differences of this score on `evaluation.split`."""
    level: float = Field(LEVEL, gt=0.5, le=0.999)
    """The level with which the intervals of all pairs hold together: one minus the share of false alarms."""
    baseline: str | None = None
    """The arm with which the others are compared, and not with each other; None compares every two arms."""
    looks: list[int] = []
    """After how many seeds results are looked at: the study stops at the first at which every pair is resolved."""
    power: float = Field(0.8, gt=0.5, lt=1)
    """The share of studies for which it is said what would be resolved."""

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, values: Any) -> Any:
        """Read what was written when a rule named its correction; all intervals of a study hold together now."""
        if not isinstance(values, dict) or "correction" not in values:
            return values
        if values["correction"] != "holm":
            given = f"rule.correction: {values['correction']!r} given"
            raise ValueError(f"{given}; the intervals of all pairs hold together, so leave it out")
        return {name: value for name, value in values.items() if name != "correction"}

    @field_validator("looks")
    @classmethod
    def _ascending(cls, looks: list[int]) -> list[int]:
        if looks and (looks[0] < 2 or any(a >= b for a, b in itertools.pairwise(looks))):
            raise ValueError("ascending numbers of seeds from 2 on, as 5,8,12, would do")
        return looks


class Tuning(Config):
    """The grid of learning rates that every arm without one of its own runs through, and how one point is chosen."""

    learning_rates: list[float] = []
    """Empty: one learning rate for all, that of `training`."""

    @field_validator("learning_rates")
    @classmethod
    def _a_grid_of_rates(cls, rates: list[float]) -> list[float]:
        if len(set(rates)) != len(rates):
            raise ValueError("must not repeat itself")
        if any(rate <= 0 for rate in rates):
            raise ValueError("must be above zero")
        return rates

    split: Literal["validation"] = "validation"
    """What the choice goes by, at the end of training: the lowest mean nats per token over the seeds."""
    budget: int | None = Field(None, gt=0)
    """The most runs that an arm may spend on its grid, the same for all arms; a study that asks for more is refused."""


USUAL_RULE, UNTUNED = Rule(), Tuning()
