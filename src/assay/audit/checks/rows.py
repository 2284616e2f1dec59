"""Isolation of rows: those of a batch do not influence each other, in batches of several sizes.

Shapes: B rows, T tokens, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from assay.audit.blame.pairing import prefix_of, rows_but
from assay.audit.blame.where import placed, trace
from assay.audit.probing.evidence import Change, finding_of, largest_change
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick, measured_on
from assay.audit.report import worst
from assay.audit.subject.subject import RaisedError, Subject
from assay.records import Finding

Rows = tuple[int, ...]


def rows(subject: Subject, search: Search, yardstick: Yardstick, training: bool = False) -> Finding:
    """Two comparisons, for batches of several sizes; the worst answer counts.

    1. Half of the rows are replaced by rows of random or special ids, for several choices of the half: the other rows
    must not move. 2. A row alone must give what it gives in the batch (with dropout off, as masks depend on the shape).
    Training mode takes the smallest batch only, a large model the largest only: of it every row is run alone, and if it
    draws nothing at random, rows are replaced only where one differs.
    """
    findings = []
    sizes = search.batches[:1] if training else search.batches[-1:] if search.brief else search.batches
    for count in sizes:
        try:
            findings.append(_of_batch(subject, search, yardstick, training, count))
        except RaisedError as error:  # a cache on the model may have room for so many rows only
            if not findings:
                raise
            found = worst(findings)
            words = f"{found.explanation}; batches of {count} rows were not tried: the model raised {error}"
            return found.model_copy(update={"explanation": words})
        if findings[-1].status == "fail":
            break
    return worst(findings)


def halves(count: int) -> list[Rows]:
    """Sets of rows such that of any two rows one set holds the first alone, another the second alone."""
    bits = range((count - 1).bit_length())
    return [tuple(row for row in range(count) if (row >> bit & 1) == value) for bit in bits for value in (0, 1)]


def batches(subject: Subject, search: Search, count: int) -> tuple[Tensor, Tensor]:
    """Two batches [count, T] that differ in every row: random ids, and in the last row of the second one special id."""
    generator = torch.Generator().manual_seed(search.seed + 4)
    shape = (count, search.content)
    base, other = (torch.randint(subject.vocab_size, shape, generator=generator) for _ in range(2))
    base[0, ::7] = subject.special_ids[0]
    other[count - 1] = subject.special_ids[0]
    return base, other


def _of_batch(subject: Subject, search: Search, yardstick: Yardstick, training: bool, count: int) -> Finding:
    base, other = batches(subject, search, count)
    before = subject.one_call(base, training)
    alone = range(count) if search.brief else (0, count - 1)
    if search.brief and not subject.draws(training):
        good = Finding(check="isolation", status="pass", explanation="rows of a batch do not move each other")
        company = _company(subject, base, before, yardstick, training, good, alone)
        if company.status != "fail":
            return company

    def replaced(these: Rows, yardstick: Yardstick) -> tuple[Change, Rows, Tensor]:
        changed, kept = base.clone(), [row for row in range(count) if row not in these]
        changed[list(these)] = other[list(these)]
        return largest_change(before[kept], subject.one_call(changed, training)[kept], yardstick), these, changed

    found, these, changed = max((replaced(half, yardstick) for half in halves(count)), key=lambda c: c[0].excess)
    if found.excess > 1:
        yardstick = measured_on(subject, yardstick, torch.cat([base, other]))
        found, these, changed = replaced(these, yardstick)
    passed, failed = "rows of a batch do not move each other", f"of {count} rows one moves when another changes"
    finding = finding_of("isolation", found, yardstick, passed, failed)
    if finding.status == "pass":
        return _company(subject, base, before, yardstick, training, finding, alone)
    singles = [replaced((row,), yardstick) for row in these]
    these, changed = next(((rows, ids) for found, rows, ids in singles if found.excess > 1), (these, changed))
    runs = [lambda ids=ids: subject.one_call(ids, training) for ids in (base, changed)]
    tracer, blames = trace(subject, rows_but(count, base.shape[1], these), yardstick.unit, runs[0], runs[1])
    return placed(finding, tracer, blames, f"when {_named(these)}", "row")


def _company(
    subject: Subject,
    base: Tensor,
    before: Tensor,
    yardstick: Yardstick,
    training: bool,
    passed: Finding,
    these: Sequence[int],
) -> Finding:
    """The second comparison: these rows alone against the batch."""
    if subject.draws(training, dropout=False):
        return passed

    def run(ids: Tensor) -> Tensor:
        return subject.one_call(ids, training, dropout=False)

    together = run(base) if subject.draws(training) else before
    together, alone = together[list(these)], torch.cat([run(base[row : row + 1]) for row in these])
    found = largest_change(together, alone, yardstick)
    if found.excess > 1:
        found = largest_change(together, alone, measured_on(subject, yardstick, base))
    words = f"a row alone gives other logits than in a batch of {len(base)}"
    finding = finding_of("isolation", found, yardstick, passed.explanation, words)
    if finding.status == "fail" and subject.draws(training, dropout=False):  # as the runs have shown
        return passed
    if finding.status == "pass":
        return max((finding, passed), key=lambda f: (f.measured or 0.0) / (f.threshold or 1.0))
    tracer, blames = trace(
        subject,
        prefix_of(len(base), 1),
        yardstick.unit,
        lambda: run(base),
        lambda: run(base[:1]),
        same_shape=False,
    )
    return placed(finding, tracer, blames, "when the other rows are left out", "row")


def _named(these: Rows) -> str:
    if len(these) == 1:
        return f"row {these[0]} changes"
    return f"rows {', '.join(map(str, these[:-1]))} and {these[-1]} change"
