"""The report of an audit: findings, what was searched, and whether the model is sound."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.audit.calling.lengths import spans
from assay.records import Finding, Record

DECIDING = ("causality", "labels", "length", "isolation", "determinism", "modes", "parity", "scoring")
"""The checks whose failure makes a model unsound; the others can only warn."""
NOTHING = "nothing to compare: "
"""The explanation of a skipped check begins so where the model has not what the check is about, such as a state."""
LONGEST_REASON = 120


class Searched(Record):
    """Where the audit looked; it says nothing of other places. Lengths are in tokens.

    `lengths` are the prefixes compared with the longest sequence. `takes` are the lengths that the model takes, in
    words; `called` says how it is called where that is not with ids alone; `unsearched` what was not looked at and why.
    """

    longest: int
    lengths: tuple[int, ...]
    takes: str = ""
    called: str = ""
    unsearched: tuple[str, ...] = ()
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
        """One line: "sound up to T = 320, both modes" and what was not looked at; or what failed and where."""
        failed = [finding for finding in self.findings if finding.status == "fail"]
        if not failed:
            return f"sound {self.reach()}"
        return "unsound: " + "; ".join(f"{f.check} ({f.where or f.explanation})" for f in failed)

    def reach(self) -> str:
        """How far was searched, and what was not: the words without which "sound" would say too much."""
        searched = self.searched
        modes = "both modes" if len(searched.modes) == 2 else f"{searched.modes[0]} mode only"
        lengths = f"at T = {searched.takes}" if searched.takes else f"up to T = {searched.longest}"
        parts = [lengths, modes, searched.arithmetic, *([searched.called] if searched.called else [])]
        missing = f"; not looked at: {'; '.join(searched.unsearched)}" if searched.unsearched else ""
        return ", ".join(parts) + missing


SKIPPED = "not looked at: "
"""The explanation of a check begins so that was skipped as the model raised, be it in one mode alone."""


def unsearched(merged: Sequence[Finding], findings: Sequence[Finding], others: Mapping[str, str]) -> tuple[str, ...]:
    """What was not looked at, and why: deciding checks that were skipped, and `others`, each with its reason.

    `merged` are the worst findings of each check, which hide those that were skipped in one setting alone.
    """
    partly = [f for f in findings if f.explanation.startswith(SKIPPED)]
    skipped = {f.check: f.explanation for f in (*partly, *merged) if f.check in DECIDING and f.status == "skip"}
    reasons = {**{check: why for check, why in skipped.items() if not why.startswith(NOTHING)}, **others}
    return tuple(f"{what.replace('_', ' ')} ({_shortened(why)})" for what, why in reasons.items())


def _shortened(reason: str) -> str:
    first = reason.removeprefix(SKIPPED).split(". ")[0]
    return first if len(first) <= LONGEST_REASON else f"{first[: LONGEST_REASON - 3]}..."


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


def told(finding: Finding, model: str, lengths: Sequence[int]) -> Finding:
    """The finding as the report shows it: with the lengths compared on any weights; a failure always names a place."""
    if finding.check == "length" and finding.status == "pass":
        words = f"{finding.explanation}; on either weights those of {spans(lengths, most=16)} tokens"
        return finding.model_copy(update={"explanation": words})
    if finding.status != "fail" or finding.where is not None:
        return finding
    return finding.model_copy(update={"where": f"{model} itself: no part of it alone shows it", "modules": ("",)})
