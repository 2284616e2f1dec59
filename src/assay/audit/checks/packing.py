"""Isolation of packed documents: what comes after a separator does not see what is before it.

Shapes: T tokens, V vocabulary.
"""

import torch

from assay.audit.blame.pairing import from_position
from assay.audit.blame.where import placed, trace
from assay.audit.probing.evidence import finding_of, largest_change
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick
from assay.audit.subject.subject import Subject
from assay.records import Finding


def packing(subject: Subject, search: Search, yardstick: Yardstick, separator: int) -> Finding:
    """Put two documents into one row, the id `separator` between them: changing the first must not move the second."""
    generator = torch.Generator().manual_seed(search.seed + 5)
    T = search.middle
    if T < 3 or subject.vocab_size < 3:
        words = "two documents and what parts them need three tokens and three ids"
        return Finding(check="isolation", status="skip", explanation=words)
    base = torch.randint(subject.vocab_size, (1, T), generator=generator)
    base[base == separator] = (separator + 1) % subject.vocab_size
    cut = T // 2
    base[:, cut] = separator
    changed = base.clone()
    changed[:, :cut] = (changed[:, :cut] + 1) % subject.vocab_size
    changed[changed == separator] = (separator + 2) % subject.vocab_size
    changed[:, cut] = separator
    before, after = subject.logits(base), subject.logits(changed)
    found = largest_change(before[:, cut + 1 :], after[:, cut + 1 :], yardstick, cut + 1)
    passed = f"what comes after id {separator} does not see the document before it"
    failed = f"logits after id {separator} move when the document before it changes"
    finding = finding_of("isolation", found, yardstick, passed, failed)
    if finding.status == "pass":
        return finding
    runs = [lambda ids=ids: subject.logits(ids) for ids in (base, changed)]
    tracer, blames = trace(subject, from_position(T, cut + 1), yardstick.unit, runs[0], runs[1])
    return placed(finding, tracer, blames, "when the document before the boundary changes")
