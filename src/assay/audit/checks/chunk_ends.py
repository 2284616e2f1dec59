"""Which positions may read the next token, asked of the ends and beginnings of chunks of every length in few calls.

The rows are run in the model's own type where that is float32, at half the time of float64. What moves there is only a
suspicion: causality.py replaces the same tokens again in float64.

Shapes: B rows, T tokens, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from assay.audit.probing.probes import last_ids
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick, rounding
from assay.audit.subject.differences import change
from assay.audit.subject.memory import Memory
from assay.audit.subject.subject import RaisedError, Subject

ROWS, LOGITS = 16, 1 << 25
"""The most rows of a call, and about the most logits."""
TIMES_ROUNDING, LEAST = 5.0, 1e-6
"""A change is suspicious above this many times what rounding does, and this much of the logits."""
NAMED = 4
"""How many suspicious positions are named, those that moved furthest."""


def suspects(subject: Subject, search: Search, yardstick: Yardstick) -> tuple[int, ...] | None:
    """The positions whose logits move when the tokens after them are replaced, NAMED at most; None if it raises."""
    if not search.replaced:
        return ()
    try:
        with _in_own_type(subject):
            unit = torch.finfo(subject.own_type).eps if not subject.wide else yardstick.unit
            before = subject.logits(yardstick.ids)
            allowed = TIMES_ROUNDING * rounding(subject, yardstick.ids, before, yardstick.scale, search.seed, unit)
            allowed = allowed.clamp_min(LEAST * yardstick.scale)
            moved = [found for group in _groups(subject, search) for found in _moved(subject, search, group, allowed)]
    except RaisedError:
        return None
    suspicious = sorted(((excess, token - 1) for excess, token in moved if excess > 1), reverse=True)
    return tuple(cut for _, cut in suspicious[:NAMED])


@contextmanager
def _in_own_type(subject: Subject) -> Iterator[None]:
    """Inside the block the copy, with the weights in use, is in float32 if that is its own type."""
    if not subject.wide or not subject.narrow or subject.own_type is not torch.float32:
        yield
        return
    subject.memory.restore()
    weights, kept = subject.weights, subject.memory
    for tensor, values in subject.narrow:
        tensor.data = tensor.data.to(values.dtype)
    subject.memories[weights], subject.wide = Memory(subject.model), False
    try:
        yield
    finally:
        subject.memories[weights], subject.wide = kept, True
        subject.memory.restore()


def _groups(subject: Subject, search: Search) -> Iterator[list[int]]:
    """The tokens to replace, in groups whose rows go through one call."""
    tokens = list(search.replaced)
    while tokens:
        rows = max(1, min(ROWS, LOGITS // (subject.outputs * (tokens[-1] + 1))) - 1)
        yield tokens[-rows:]
        del tokens[-rows:]


def _moved(subject: Subject, search: Search, group: list[int], allowed: Tensor) -> Iterator[tuple[float, int]]:
    """(how far the position before each token moves when it and those after it are replaced, per allowed; token).

    There stand the last ids of the vocabulary in turn, as separators are often added to it.
    """
    length = subject.takes.reaching(group[-1] + 1)
    generator = torch.Generator().manual_seed(search.seed + 12 + length)
    base = torch.randint(subject.vocab_size, (1, length), generator=generator)
    last = last_ids(subject.vocab_size, search.seed).roll(-search.replaced.index(group[0]))
    base[0, torch.tensor(group) - 1] = last.repeat(len(group) // len(last) + 1)[: len(group)]
    other = (base + 1 + torch.randint(subject.vocab_size - 1, base.shape, generator=generator)) % subject.vocab_size
    later = torch.arange(length) >= torch.tensor([length, *group])[:, None]
    ids = torch.where(later, other, base)
    rows = len(ids) if not subject.alone else 1
    logits = torch.cat([subject.one_call(part) for part in ids.split(rows)])
    for row, token in enumerate(group, 1):
        moved = _distance(logits[0, :token], logits[row, :token])
        yield (moved / allowed[:token].to(moved)).amax().item(), token


def _distance(before: Tensor, after: Tensor) -> Tensor:
    """The largest change [T] of logits [T, V], in their own type where all are finite, which is quicker."""
    moved = (after - before).abs_().amax(-1)
    return moved if bool(moved.amax() < torch.inf) else change(before, after).amax(-1)
