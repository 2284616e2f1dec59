"""Length: a prefix gives the same logits alone as inside a longer sequence.

Shapes: T tokens, V vocabulary.
"""

from collections.abc import Iterator

from torch import Tensor

from assay.audit.blame.pairing import prefix_of
from assay.audit.blame.where import placed, trace
from assay.audit.calling.lengths import spans
from assay.audit.probing.evidence import Change, finding_of, largest_change
from assay.audit.probing.probes import repeating_rows
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick, measured_on
from assay.audit.subject.subject import RaisedError, Subject
from assay.records import Finding

CHANCE = "not decided: masks are drawn that depend on the length and cannot be switched off"


def length(subject: Subject, search: Search, yardstick: Yardstick, training: bool = False) -> Finding:
    """Compare prefixes of many lengths, odd ones and a single token included, with the longest sequence.

    A few of them are also compared on rows that repeat themselves: experts that take a share of a row may overflow on
    those alone. In training mode there are fewer lengths, and dropout is off, as its masks depend on the shape. Lengths
    at which the model raises an exception are a warning.
    """
    lengths = search.lengths[::5] if training else search.lengths
    if subject.draws(training, dropout=False):
        return Finding(check="length", status="skip", explanation=CHANCE)
    if not lengths:
        words = f"the model takes {subject.takes.in_words()}: there is no shorter one"
        return Finding(check="length", status="skip", explanation=words)
    raised: dict[int, str] = {}
    largest: tuple[Change, Tensor, int] | None = None
    for ids, whole, counts in _rows(subject, search, yardstick, training, lengths):
        for count in counts:
            try:
                alone = subject.logits(ids[:, :count], training, dropout=False)
            except RaisedError as error:
                raised[count] = str(error)
                continue
            found = largest_change(whole[:, :count], alone, yardstick)
            if found.excess > 1 and ids is not yardstick.ids:
                found = largest_change(whole[:, :count], alone, measured_on(subject, yardstick, ids))
            if largest is None or found.excess > largest[0].excess:
                largest = found, ids[found.comparison :][:1], count
    if largest is None:
        return Finding(check="length", status="skip", explanation=f"no prefix runs: {next(iter(raised.values()))}")
    found, ids, count = largest
    finding = finding_of(
        "length",
        found,
        yardstick,
        f"{len(lengths) - len(raised)} prefixes alone give what they give inside {ids.shape[1]} tokens",
        f"the first {count} tokens alone give other logits than inside {ids.shape[1]} tokens",
    )
    if finding.status == "fail" and subject.draws(training, dropout=False):  # as the runs have shown
        return Finding(check="length", status="skip", explanation=CHANCE)
    if finding.status == "fail":
        return _located(subject, finding, ids, count, yardstick, training)
    if raised:
        words = f"raises at {spans(raised)} tokens ({next(iter(raised.values()))}); {finding.explanation}"
        return finding.model_copy(update={"status": "warn", "explanation": words})
    return finding


def _rows(
    subject: Subject, search: Search, yardstick: Yardstick, training: bool, lengths: tuple[int, ...]
) -> Iterator[tuple[Tensor, Tensor, tuple[int, ...]]]:
    """(ids [B, T], their logits [B, T, V], prefixes to compare): the yardstick's row, then rows that repeat."""
    ids = yardstick.ids
    drawn = training or subject.draws(training)
    yield ids, subject.logits(ids, training, dropout=False) if drawn else yardstick.logits, lengths
    counts = tuple(count for count in search.repeated if count < search.repeating)
    if counts and not training:
        ids = repeating_rows(search, subject.vocab_size)
        yield ids, subject.logits(ids, dropout=False), counts


def _located(
    subject: Subject, finding: Finding, ids: Tensor, count: int, yardstick: Yardstick, training: bool
) -> Finding:
    tracer, blames = trace(
        subject,
        prefix_of(ids.shape[1], count),
        yardstick.unit,
        lambda: subject.logits(ids, training, dropout=False),
        lambda: subject.logits(ids[:, :count], training, dropout=False),
        same_shape=False,
    )
    return placed(finding, tracer, blames, f"when the sequence ends after {count} tokens instead of {ids.shape[1]}")
