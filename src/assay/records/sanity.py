"""What the checks before a large run said of an arm beside its baseline: pass or fail, with numbers and reasons."""

from typing import ClassVar, Literal

from assay.records.versioned import Record, Versioned


class SanityFinding(Record):
    """One check."""

    check: str
    status: Literal["pass", "fail"]
    reason: str
    """A sentence with the numbers that decide."""
    numbers: dict[str, float] = {}
    limit: float | None = None
    """What the first of the numbers was held against."""


class ShortRun(Record):
    """A short training: the loss and the gradient norm of each step, and the last loss on held-out text."""

    label: str
    status: Literal["finished", "diverged"]
    nats: list[float]
    """Per target of each batch, with the weights before the step."""
    gradient_norms: list[float]
    """Before clipping."""
    validation_nats: float | None
    """None where it diverged."""


class Sanity(Versioned):
    """sanity.json: an arm and its baseline at one scale."""

    version: ClassVar[int] = 1
    arm: str
    baseline: str
    asked: str
    """A digest of all that decides the numbers: both specs, the limits, the rung below."""
    corpus_digest: str
    part: dict[str, ShortRun]
    """Label -> the run on a part of the data."""
    findings: list[SanityFinding]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(finding.status == "pass" for finding in self.findings)
