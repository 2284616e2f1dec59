"""The audits of a study's arms, before and after training; an arm that fails one is not ranked."""

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
    """Audit the arm's model before training, with redrawn weights and a small vocabulary.

    Redrawn weights do not hide a leak as zero-initialised ones do; a small vocabulary makes the audit quick.
    """
    try:
        small = {"vocab_size": min(arm.config.vocab_size, VOCAB_SIZE)}
        config = arm.architecture.config.parse({**arm.config.model_dump(), **small})
    except RequestError:  # some of its dimensions are token ids, which a small vocabulary does not have
        config = arm.config
    model = build_model(arm.architecture, config, seed, arm.replicate).eval()
    return _audit(study, arm, seed, model, "before training")


def audit_trained(study: Study, arm: ResolvedArm, seed: int, folder: Path) -> ArmAudit:
    """Audit the trained weights in the run's `folder`."""
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
    """The audit in one line: how far was searched; for an unsound arm, the known reason if any, and where it fails."""
    summary = report.summary().removeprefix("unsound: ")
    known = arm.architecture.unsound
    return summary if report.sound or known is None else f"{known}; {summary}"
