"""Determinism: in eval mode the same ids give the same logits, whatever the state of any random generator."""

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
    """Run the longest row from two seeds and a short row twice from one seed, the copy's memory put back in between.

    Of a large model the short row alone is run. Logits that differ were drawn at random, or depend on something outside
    the model.
    """

    def run(ids: Tensor, seed: int) -> Tensor:
        subject.memory.restore()
        return subject.logits(ids, seed=seed)

    # Not the measured yardstick: it is itself a difference of repeated runs, which a model that draws makes large.
    unmoved = max(SMALLEST_LEAK, 1000 * yardstick.unit) * yardstick.scale
    stick = replace(yardstick, allowed=torch.full_like(yardstick.allowed, unmoved))
    long, short = yardstick.ids, yardstick.ids[:, : search.content]
    first = run(short, 0)
    changes = [(largest_change(first, run(short, 0), stick), short, 0)]
    if search.brief:
        changes.append((largest_change(first, run(short, 1), stick), short, 1))
    else:
        changes.append((largest_change(yardstick.logits, run(long, 1), stick), long, 1))
    found, ids, seed = max(changes, key=lambda change: change[0].excess)
    passed = "the same ids give the same logits from any seed"
    failed = "the same ids give other logits in eval mode " + ("from another seed" if seed else "from the same seed")
    finding = finding_of("determinism", found, stick, passed, failed)
    if finding.status == "pass":
        return finding
    # A call on other tokens in between shows a memory outside the model, which restoring the copy does not reset.
    tracer, blames = trace(
        subject,
        everything,
        yardstick.unit,
        lambda: run(ids, 0),
        lambda: run(ids, seed),
        between=lambda: subject.logits(ids.flip(1)),
    )
    return placed(finding, tracer, blames, failed.removeprefix("the same ids give other logits in eval mode "))
