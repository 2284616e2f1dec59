"""The audits of a study's arms, before and after training: what cheats is not ranked."""

from pathlib import Path
from typing import Literal

from assay.audit import AuditReport, quick_audit
from assay.errors import RequestError
from assay.model.architecture import build_model
from assay.model.lm import LanguageModel
from assay.records import ArmAudit
from assay.study.resolve import ResolvedArm, Study
from assay.study.subject.fresh import VOCAB_SIZE
from assay.study.subject.run import load_run

Moment = Literal["before training", "after training"]


def audit_fresh(study: Study, arm: ResolvedArm, seed: int) -> ArmAudit:
    """Of the arm's model with redrawn weights, which hide nothing, and a small vocabulary, which costs nothing."""
    try:
        small = {"vocab_size": min(arm.config.vocab_size, VOCAB_SIZE)}
        config = arm.architecture.config.parse({**arm.config.model_dump(), **small})
    except RequestError:  # token ids are among its dimensions
        config = arm.config
    model = build_model(arm.architecture, config, seed, arm.replicate).eval()
    return _audit(study, arm, seed, model, "before training")


def audit_trained(study: Study, arm: ResolvedArm, seed: int, folder: Path) -> ArmAudit:
    """Of the weights in the run's `folder`."""
    return _audit(study, arm, seed, load_run(folder).model, "after training")


def _audit(study: Study, arm: ResolvedArm, seed: int, model: LanguageModel, moment: Moment) -> ArmAudit:
    """In the form of the ops that the study trains with; a model that cannot be audited is a RequestError."""
    model.set_execution(study.plan.execution)
    try:
        report = quick_audit(model, moment == "after training", study.config.training.context)
    except RequestError as error:
        raise RequestError(f"{arm.label}: cannot be audited: {error}") from error
    return ArmAudit(
        label=arm.label,
        seed=seed,
        moment=moment,
        sound=report.sound,
        summary=_summary(arm, report),
        findings=[finding.model_dump(mode="json") for finding in report.findings],
    )


def _summary(arm: ResolvedArm, report: AuditReport) -> str:
    """How far it was searched; of one that cheats, why where that is known, and where."""
    summary = report.summary().removeprefix("unsound: ")
    known = arm.architecture.unsound
    return summary if report.sound or known is None else f"{known}; {summary}"
