"""What an unsound arm does, in a few words, from the checks that it fails."""

from collections.abc import Sequence

from assay.records import ArmAudit

WORDS = {
    "causality": "reads the future",
    "length": "reads what comes after",
    "isolation": "reads other rows, calls or documents",
    "determinism": "draws at random where it is scored",
    "modes": "computes otherwise in training than in evaluation",
    "parity": "decodes otherwise than it trains",
    "scoring": "is scored on other tokens than it should be",
    "activations": "has activations that are not finite",
}
"""The name of a check -> what fails it; the gravest first."""


def in_words(label: str, audits: Sequence[ArmAudit]) -> str:
    """ "reads the future"; of several failed checks the gravest."""
    failed = [
        str(finding.get("check", ""))
        for audit in audits
        if audit.label == label and not audit.sound
        for finding in audit.findings
        if finding.get("status") == "fail"
    ]
    gravest = next((words for check, words in WORDS.items() if check in failed), None)
    return gravest or (f"fails the audit ({failed[0].replace('_', ' ')})" if failed else "fails the audit")
