"""Determinism: in eval mode the same ids give the same logits, whatever any generator holds."""

from dataclasses import replace

import torch
from torch import Tensor

from assay.evaluation.audit.evidence import finding_of, largest_change
from assay.evaluation.audit.findings import Finding
from assay.evaluation.audit.pairing import everything
from assay.evaluation.audit.probes import mixed_row
from assay.evaluation.audit.rounding import SMALLEST_LEAK, Yardstick
from assay.evaluation.audit.search import Search
from assay.evaluation.audit.subject import Subject
from assay.evaluation.audit.where import placed, trace


def determinism(subject: Subject, search: Search, yardstick: Yardstick) -> Finding:
    """Twice from other seeds, on a copy put back between: what differs was drawn, or comes from outside."""
    ids = mixed_row(search, subject.vocab_size, subject.special_ids)[:, : search.content]

    def run(seed: int) -> Tensor:
        subject.memory.restore()
        return subject.logits(ids, seed=seed)

    # Repeats are compared with rounding in principle, not as measured: the measurement repeats runs too.
    unmoved = max(SMALLEST_LEAK, 1000 * yardstick.unit) * yardstick.scale
    yardstick = replace(yardstick, allowed=torch.full_like(yardstick.allowed, unmoved))
    before = run(0)
    changes = [(largest_change(before, run(seed), yardstick), seed) for seed in (0, 1)]
    found, seed = max(changes, key=lambda pair: pair[0].excess)
    passed = "the same ids give the same logits from any seed"
    failed = "the same ids give other logits in eval mode " + ("from another seed" if seed else "from the same seed")
    finding = finding_of("determinism", found, yardstick, passed, failed)
    if finding.status == "pass":
        return finding
    # Other tokens in between, for a memory outside the model, which nothing puts back.
    tracer, blames = trace(
        subject,
        everything,
        yardstick.unit,
        lambda: run(0),
        lambda: run(seed),
        between=lambda: subject.logits(ids.flip(1)),
    )
    return placed(finding, tracer, blames, failed.removeprefix("the same ids give other logits in eval mode "))
