"""Typed, versioned results with provenance; no torch."""

from assay.records.finding import Finding, Status
from assay.records.run import (
    CurvePoint,
    Flops,
    Likelihood,
    Match,
    OutputHealth,
    Parameters,
    RunRecord,
    SignalProfile,
    Split,
)
from assay.records.study import (
    Addition,
    Arm,
    ArmAudit,
    Floor,
    Interval,
    Pair,
    Speed,
    StudyRecord,
    TestScores,
)
from assay.records.versioned import Record, Versioned, write_whole

__all__ = [
    "Addition",
    "Arm",
    "ArmAudit",
    "CurvePoint",
    "Finding",
    "Floor",
    "Flops",
    "Interval",
    "Likelihood",
    "Match",
    "OutputHealth",
    "Pair",
    "Parameters",
    "Record",
    "RunRecord",
    "SignalProfile",
    "Speed",
    "Split",
    "Status",
    "StudyRecord",
    "TestScores",
    "Versioned",
    "write_whole",
]
