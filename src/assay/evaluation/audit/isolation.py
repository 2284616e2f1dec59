"""Isolation: rows of a batch, calls, and packed documents do not influence each other.

Shapes: B rows, T tokens, V vocabulary.
"""

import torch
from torch import Tensor

from assay.evaluation.audit.evidence import finding_of, largest_change
from assay.evaluation.audit.findings import Finding
from assay.evaluation.audit.pairing import everything, from_position, prefix_of, rows_but
from assay.evaluation.audit.rounding import Yardstick
from assay.evaluation.audit.search import Search
from assay.evaluation.audit.subject import Subject
from assay.evaluation.audit.where import placed, trace

ROWS = 3


def rows(subject: Subject, search: Search, yardstick: Yardstick, training: bool = False) -> Finding:
    """Replace one row of a batch, each in turn, by random or by special ids: the others stay; and alone they are the
    same as in company (with dropout off, as masks depend on the shape)."""
    base, other = _batches(subject, search)
    T = base.shape[1]
    before = subject.logits(base, training)
    changes = []
    for row in range(ROWS):
        changed = base.clone()
        changed[row] = other[row]
        kept = [index for index in range(ROWS) if index != row]
        found = largest_change(before[kept], subject.logits(changed, training)[kept], yardstick)
        changes.append((found, row, changed))
    found, row, changed = max(changes, key=lambda change: change[0].excess)
    passed, failed = "rows of a batch do not move each other", "a row of a batch moves when another one changes"
    finding = finding_of("isolation", found, yardstick, passed, failed)
    if finding.status == "fail":
        runs = [lambda ids=ids: subject.logits(ids, training) for ids in (base, changed)]
        tracer, blames = trace(subject, rows_but(ROWS, T, row), yardstick.unit, runs[0], runs[1])
        return placed(finding, tracer, blames, f"when row {row} changes", "row")
    return _company(subject, base, yardstick, training, finding)


def _company(subject: Subject, base: Tensor, yardstick: Yardstick, training: bool, passed: Finding) -> Finding:
    """Each row alone against the batch."""
    if subject.draws(training, dropout=False):
        return passed
    together = subject.logits(base, training, dropout=False)
    ends = [0, ROWS - 1]
    alone = torch.cat([subject.logits(base[row : row + 1], training, dropout=False) for row in ends])
    found = largest_change(together[ends], alone, yardstick)
    words = "a row alone gives other logits than in a batch"
    finding = finding_of("isolation", found, yardstick, passed.explanation, words)
    if finding.status == "pass":
        return max((finding, passed), key=lambda f: (f.measured or 0.0) / (f.threshold or 1.0))
    tracer, blames = trace(
        subject,
        prefix_of(ROWS, 1),
        yardstick.unit,
        lambda: subject.logits(base, training, dropout=False),
        lambda: subject.logits(base[:1], training, dropout=False),
        same_shape=False,
    )
    return placed(finding, tracer, blames, "when the other rows are left out", "row")


def calls(subject: Subject, search: Search, yardstick: Yardstick, training: bool = False) -> Finding:
    """A call gives what it gave on the fresh copy, whatever was called in between: other ids, other shapes."""
    base, other = _batches(subject, search)
    x, y = base[:2], other[:2]
    shorter = max(x.shape[1] - search.multiple, search.multiple)
    history = [x, y[:1, :shorter], y]
    subject.memory.restore()
    first = subject.logits(x, training)
    for part in history[1:-1]:
        subject.logits(part, training)
    second = subject.logits(y, training)
    again = subject.logits(x, training)
    subject.memory.restore()
    fresh = subject.logits(y, training)
    comparisons = [
        (largest_change(first, again, yardstick), x, history),
        (largest_change(fresh, second, yardstick), y, history[:-1]),
    ]
    found, ids, past = max(comparisons, key=lambda comparison: comparison[0].excess)
    words = "a call gives other logits after other calls than on a fresh copy"
    finding = finding_of("isolation", found, yardstick, "a call does not move the next", words)
    subject.memory.restore()
    if finding.status == "pass":
        return finding

    def before() -> None:
        subject.memory.restore()
        for part in past:
            subject.logits(part, training)

    restores, subject.restores = subject.restores, False
    tracer, blames = trace(
        subject,
        everything,
        yardstick.unit,
        lambda: subject.logits(ids, training),
        lambda: subject.logits(ids, training),
        between=before,
    )
    subject.restores = restores
    subject.memory.restore()
    return placed(finding, tracer, blames, f"after {len(past)} other calls")


def packing(subject: Subject, search: Search, yardstick: Yardstick, separator: int) -> Finding:
    """Documents packed into one row, parted by the id `separator`: what comes after it does not see what is before."""
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


def _batches(subject: Subject, search: Search) -> tuple[Tensor, Tensor]:
    """A batch [ROWS, T], and another of which every row differs: random ids, or one special id throughout."""
    generator = torch.Generator().manual_seed(search.seed + 4)
    shape = (ROWS, search.content)
    base, other = (torch.randint(subject.vocab_size, shape, generator=generator) for _ in range(2))
    base[0, ::7] = subject.special_ids[0]
    other[ROWS - 1] = subject.special_ids[0]
    return base, other
