"""Modes: training mode differs from eval mode by dropout and by nothing else."""

from collections.abc import Callable

import torch
from torch import Tensor

from assay.audit.blame.pairing import everything
from assay.audit.blame.where import placed, trace
from assay.audit.probing.evidence import finding_of, largest_change
from assay.audit.probing.yardstick import Yardstick
from assay.audit.subject.subject import Subject
from assay.records import Finding


def modes(subject: Subject, yardstick: Yardstick) -> Finding:
    """With dropout off, training mode gives the logits of eval mode, on the longest sequence of the search.

    A layer that still draws at random then cannot be compared: where only such layers differ, the check is skipped and
    names them.
    """
    ids = yardstick.ids
    runs = [_run(subject, ids, training) for training in (False, True)]
    trained = None if subject.draws(True) else subject.trained.get(subject.weights)
    trained = runs[1]() if trained is None else trained
    found = largest_change(runs[0]() if subject.draws(True) else yardstick.logits, trained, yardstick)
    passed, failed = (
        "training mode without dropout is eval mode",
        "training mode differs from eval mode by more than dropout",
    )
    finding = finding_of("modes", found, yardstick, passed, failed)
    if finding.status == "fail":
        tracer, blames = trace(subject, everything, yardstick.unit, runs[0], runs[1], watch_draws=True)
        fixed = [blame for blame in blames if not blame.drew]
        if blames and not fixed:
            names = ", ".join(tracer.title(blame.module) for blame in blames)
            words = f"not decided: {names} draws at random in training mode and could not be switched off"
            finding = Finding(check="modes", status="skip", explanation=words)
        elif not blames and subject.callings[False] != subject.callings[True]:
            # No module differs: the loss in training mode gets other logits than the model returns in eval mode.
            words = f"{finding.explanation}: in training mode, {subject.callings[True].in_words()}"
            finding = finding.model_copy(update={"status": "warn", "explanation": words})
        else:
            finding = placed(finding, tracer, fixed, "between eval and training mode")
            finding = _refined(subject, ids, yardstick, finding)
    subject.memory.restore()
    return finding


def _refined(subject: Subject, ids: Tensor, yardstick: Yardstick, finding: Finding) -> Finding:
    """A warning instead of a failure, where eval mode gives the same after a call in training mode as that call did.

    Then training mode refines an estimate, as spectral norm does. Where eval mode gives something else after a training
    call on other tokens, what a call refines of all its tokens moves its own logits: a leak.
    """
    others = [(ids + 1) % subject.vocab_size, ids.flip(1), torch.zeros_like(ids)]
    restores, subject.restores, subject.keeps_changes = subject.restores, False, True
    try:
        trained, after = _trained_and_after(subject, ids, ids)
        if largest_change(trained, after, yardstick).excess > 1:
            return finding
        moved = [largest_change(after, _trained_and_after(subject, other, ids)[1], yardstick) for other in others]
    finally:
        subject.restores, subject.keeps_changes = restores, False
    if any(change.excess > 1 for change in moved):
        words = f"{finding.explanation}: the tokens of a call move what it is computed with"
        return finding.model_copy(update={"explanation": words})
    words = f"{finding.explanation}; eval mode gives the same after that call: something is refined in training mode"
    return finding.model_copy(update={"status": "warn", "explanation": words})


def _trained_and_after(subject: Subject, others: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of a training call on `others`, then of `ids` in eval mode, on a fresh copy."""
    subject.memory.restore()
    return subject.logits(others, True, dropout=False), subject.logits(ids, dropout=False)


def _run(subject: Subject, ids: Tensor, training: bool) -> Callable[[], Tensor]:
    def run() -> Tensor:
        subject.memory.restore()
        return subject.logits(ids, training, dropout=False)

    return run
