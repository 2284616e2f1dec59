"""Determinism: in eval mode the same ids give the same logits, whatever any generator holds."""

from dataclasses import replace

import torch
from torch import Tensor

from assay.audit.blame.pairing import everything
from assay.audit.blame.where import placed, trace
from assay.audit.probing.evidence import finding_of, largest_change
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import SMALLEST_LEAK, Yardstick
from assay.audit.subject.subject import Subject
from assay.records import Finding


def determinism(subject: Subject, search: Search, yardstick: Yardstick) -> Finding:
    """On a copy put back between: the longest row from another seed, a short one twice from the same. What differs was
    drawn, or comes from outside."""

    def run(ids: Tensor, seed: int) -> Tensor:
        subject.memory.restore()
        return subject.logits(ids, seed=seed)

    # Repeats are compared with rounding in principle, not as measured: the measurement repeats runs too.
    unmoved = max(SMALLEST_LEAK, 1000 * yardstick.unit) * yardstick.scale
    stick = replace(yardstick, allowed=torch.full_like(yardstick.allowed, unmoved))
    long, short = yardstick.ids, yardstick.ids[:, : search.content]
    changes = [
        (largest_change(run(short, 0), run(short, 0), stick), short, 0),
        (largest_change(yardstick.logits, run(long, 1), stick), long, 1),
    ]
    found, ids, seed = max(changes, key=lambda change: change[0].excess)
    passed = "the same ids give the same logits from any seed"
    failed = "the same ids give other logits in eval mode " + ("from another seed" if seed else "from the same seed")
    finding = finding_of("determinism", found, stick, passed, failed)
    if finding.status == "pass":
        return finding
    # Other tokens in between, for a memory outside the model, which nothing puts back.
    tracer, blames = trace(
        subject,
        everything,
        yardstick.unit,
        lambda: run(ids, 0),
        lambda: run(ids, seed),
        between=lambda: subject.logits(ids.flip(1)),
    )
    return placed(finding, tracer, blames, failed.removeprefix("the same ids give other logits in eval mode "))
