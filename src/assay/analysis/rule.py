"""How a study is judged and tuned, written before its runs: keys of the study, read by its headline."""

from typing import Literal

from pydantic import Field, field_validator

from assay.analysis.statistics import LEVEL
from assay.config import Config


class Rule(Config):
    """When a difference between two arms counts."""

    primary: Literal["nats_per_token"] = "nats_per_token"
    """What decides: paired differences of this score on `evaluation.split`."""
    level: float = Field(LEVEL, gt=0.5, lt=1)
    """One minus the share of false alarms that is accepted."""
    correction: Literal["holm", "none"] = "holm"
    """Over all pairs of the study."""


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
