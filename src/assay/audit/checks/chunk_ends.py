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
FILLED = 200
"""With how many tokens the rows of a call are filled up at most."""
TIMES_ROUNDING, LEAST = 5.0, 1e-6
"""A change is suspicious above this many times what rounding does, and this much of the logits."""
NAMED = 4
"""How many suspicious positions are named, those that moved furthest."""


def suspects(subject: Subject, search: Search, yardstick: Yardstick) -> tuple[int, ...] | None:
    """The positions whose logits move when the tokens after them are replaced, NAMED at most; None if it raises."""
    if not search.replaced:
        return ()
    base, other = _rows(subject, search)
    try:
        with _in_own_type(subject):
            unit = torch.finfo(subject.own_type).eps if not subject.wide else yardstick.unit
            before = subject.logits(base)
            allowed = TIMES_ROUNDING * rounding(subject, base, before, yardstick.scale, search.seed, unit)
            allowed = allowed.clamp_min(LEAST * yardstick.scale)
            groups = _groups(subject, search)
            moved = [found for group in groups for found in _moved(subject, base, other, before[0], group, allowed)]
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
    """The tokens to replace, in groups whose rows go through one call, all as long as the longest of them."""
    group: list[int] = []  # the longest first
    for token in reversed(search.replaced):
        if group:
            rows = min(ROWS, LOGITS // (subject.outputs * (group[0] + 1)))
            filled = sum(group[0] - other for other in (*group, token))
            if len(group) >= rows or filled > FILLED:
                yield group[::-1]
                group = []
        group.append(token)
    if group:
        yield group[::-1]


def _rows(subject: Subject, search: Search) -> tuple[Tensor, Tensor]:
    """Two rows [1, T] that differ at every place, of the longest length.

    In the first the last ids of the vocabulary stand in turn before each token to replace: separators are often added
    there.
    """
    generator, V = torch.Generator().manual_seed(search.seed + 12), subject.vocab_size
    base = torch.randint(V, (1, search.longest), generator=generator)
    places, last = torch.tensor(search.replaced) - 1, last_ids(V, search.seed)
    base[0, places] = last.repeat(len(places) // len(last) + 1)[: len(places)]
    return base, (base + 1 + torch.randint(V - 1, base.shape, generator=generator)) % V


def _moved(
    subject: Subject, base: Tensor, other: Tensor, before: Tensor, group: list[int], allowed: Tensor
) -> Iterator[tuple[float, int]]:
    """(how far the position before each token moves when it and those after it are replaced, per allowed; token).

    `before` [T, V] are the logits of the row `base` [1, T], which is replaced by `other`.
    """
    length = subject.takes.reaching(group[-1] + 1)
    later = torch.arange(length) >= torch.tensor(group)[:, None]
    ids = torch.where(later, other[:, :length], base[:, :length])
    rows = len(ids) if not subject.alone else 1
    logits = torch.cat([subject.one_call(part) for part in ids.split(rows)])
    for row, token in enumerate(group):
        moved = _distance(before[:token], logits[row, :token])
        yield (moved / allowed[:token].to(moved)).amax().item(), token


def _distance(before: Tensor, after: Tensor) -> Tensor:
    """The largest change [T] of logits [T, V], in their own type where all are finite, which is quicker."""
    moved = (after - before).abs_().amax(-1)
    return moved if bool(moved.amax() < torch.inf) else change(before, after).amax(-1)
