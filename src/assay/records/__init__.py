"""Typed, versioned results with provenance; no torch."""

from assay.records.finding import Finding, Status
from assay.records.likelihood import Likelihood, Split
from assay.records.measurement import Code, Column, FigurePoint, Measured, MeasuredFigure, MeasurementResult
from assay.records.results import MeasuredRun, Results, read_study_results
from assay.records.run import DEFAULT_MATCH, CurvePoint, Flops, Match, OptimizerGroup, Parameters, RunRecord
from assay.records.study import (
    Addition,
    Arm,
    ArmAudit,
    ArmColumn,
    Floor,
    Interval,
    MeasuredBy,
    Ngram,
    Pair,
    StudyRecord,
    TestScores,
)
from assay.records.versioned import Record, Versioned, is_part, write_whole

__all__ = [
    "DEFAULT_MATCH",
    "Addition",
    "Arm",
    "ArmAudit",
    "ArmColumn",
    "Code",
    "Column",
    "CurvePoint",
    "FigurePoint",
    "Finding",
    "Floor",
    "Flops",
    "Interval",
    "Likelihood",
    "Match",
    "Measured",
    "MeasuredBy",
    "MeasuredFigure",
    "MeasuredRun",
    "MeasurementResult",
    "Ngram",
    "OptimizerGroup",
    "Pair",
    "Parameters",
    "Record",
    "Results",
    "RunRecord",
    "Split",
    "Status",
    "StudyRecord",
    "TestScores",
    "Versioned",
    "is_part",
    "read_study_results",
    "write_whole",
]
