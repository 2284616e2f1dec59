"""The report of an audit: findings, what was searched, and whether the model is sound."""

import math
from collections.abc import Sequence
from typing import Any

from assay.records import Finding, Record

DECIDING = ("causality", "length", "isolation", "determinism", "modes", "parity", "scoring")
"""The checks whose failure makes a model unsound; the others can only warn."""


class Searched(Record):
    """Where the audit looked; it says nothing of other places. Lengths are in tokens."""

    longest: int
    lengths: tuple[int, ...]
    modes: tuple[str, ...]
    weights: tuple[str, ...]
    contents: tuple[str, ...]
    arithmetic: str
    vocab_size: int
    special_ids: tuple[int, ...]


class AuditReport(Record):
    """The verdict of an audit, its findings in the order of the checks, and what was searched."""

    model: str
    sound: bool
    findings: tuple[Finding, ...]
    searched: Searched

    def as_dict(self) -> dict[str, Any]:
        """The report as a dict of types that JSON has."""
        return self.model_dump(mode="json")

    def summary(self) -> str:
        """One line: "sound up to T = 320, both modes", or what failed and where."""
        failed = [finding for finding in self.findings if finding.status == "fail"]
        if not failed:
            modes = "both modes" if len(self.searched.modes) == 2 else f"{self.searched.modes[0]} mode only"
            return f"sound up to T = {self.searched.longest}, {modes}, {self.searched.arithmetic}"
        return "unsound: " + "; ".join(f"{f.check} ({f.where or f.explanation})" for f in failed)


def excess(finding: Finding) -> float:
    """The measured value divided by the threshold."""
    if finding.measured is None or not finding.threshold:
        return 0.0
    return math.inf if math.isnan(finding.measured) else finding.measured / finding.threshold


def merged(findings: Sequence[Finding]) -> Finding:
    """The worst of several findings of one check; where all pass, in the words of the one that says most."""
    found = worst(findings)
    if found.status != "pass":
        return found
    words = max((finding.explanation for finding in findings if finding.status == "pass"), key=len)
    return found.model_copy(update={"explanation": words})


def worst(findings: Sequence[Finding]) -> Finding:
    """The worst of several findings of one check: by status, then by the number of modules named, then by excess."""
    gravity = {"fail": 3, "warn": 2, "pass": 1, "skip": 0}
    return max(findings, key=lambda f: (gravity[f.status], f.where is not None, len(f.modules), excess(f)))
