"""The ids, and the sizes of logits, on which a score is compared: chosen so that clamping and skipping tokens show.

Shapes: B rows, T tokens, V vocabulary.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from assay.audit.probing.search import Search
from assay.audit.scoring.bench import Bench
from assay.audit.subject.limits import padding_id

LARGE, HUGE = 8.0, 40.0
"""Spreads of logits at which unlikely tokens cost tens of nats (LARGE) or hundreds (HUGE)."""
SHORTER = 99
"""The number of tokens of the longest row for a large model."""
SIZES = (None, LARGE, HUGE)
ROWS = 9
"""The number of rows of the largest batch: a score may treat small batches and large ones differently."""
PHRASE, BETWEEN = 8, 24
"""The length of a phrase that comes again and again, and the number of random ids before each time."""


def trials(bench: Bench, search: Search, size: float | None) -> Iterator[Tensor]:
    """Ids [B, T] of several lengths and batch sizes to try at this size of logits; none is a padding id."""
    subject, generator = bench.subject, torch.Generator().manual_seed(search.seed + 9)
    V, pad = subject.vocab_size, padding_id(bench.subject)
    for ids in _contents(bench, search, size, generator):
        yield (ids if pad is None else torch.where(ids == pad, (pad + 1) % V, ids)).to(subject.device)


def _contents(bench: Bench, search: Search, size: float | None, generator: torch.Generator) -> Iterator[Tensor]:
    V, fit = bench.subject.vocab_size, bench.fit
    few = search.brief and bench.scorer.known and not bench.scorer.of_labels  # assay's own loss has its own tests
    yield torch.randint(V, (2, fit(16)), generator=generator)
    if size is None and not few:
        yield torch.randint(V, (ROWS, fit(5)), generator=generator)
        yield phrased(V, fit(SHORTER if search.brief else search.longest - 1), generator)
    if size == HUGE and bench.subject.takes.every:
        length = min(4 if search.brief else 8, search.longest)
        yield from extremes(bench, length).split(1)
    if size != LARGE:
        return
    T = fit(7)
    special = torch.tensor(bench.subject.special_ids).repeat(T)[:T]
    pair = torch.randint(V, (2,), generator=generator).repeat(T)[:T]
    yield torch.stack([special, pair, torch.randint(V, (T,), generator=generator)])
    if few:
        return
    yield torch.randint(V, (1, fit(2)), generator=generator)
    T = fit(SHORTER if search.brief else search.longest - 1)
    yield covering(V, 1 if V <= T or search.brief else 2, T, generator)


def long_row(bench: Bench, search: Search) -> Tensor:
    """A row [T] on which scores that are no cross-entropy are examined: as long as all its candidates may be scored."""
    generator = torch.Generator().manual_seed(search.seed + 10)
    V, pad = bench.subject.vocab_size, padding_id(bench.subject)
    longest = max(SHORTER, bench.tokens // V) if bench.scorer.on_logits else max(2, bench.tokens // V)
    row = phrased(V, bench.fit(min(search.longest - 1, longest)), generator)[0]
    return (row if pad is None else torch.where(row == pad, (pad + 1) % V, row)).to(bench.subject.device)


def phrased(vocab_size: int, length: int, generator: torch.Generator) -> Tensor:
    """Ids [1, length] that end with a phrase that came many times, other ids in between.

    So contexts of any order repeat at the end, while the tables of a score that counts n-grams have filled.
    """
    phrase = torch.randint(vocab_size, (PHRASE,), generator=generator)
    other = torch.randint(vocab_size, (length // (PHRASE + BETWEEN) + 1, BETWEEN), generator=generator)
    whole = torch.cat([other, phrase.expand(len(other), -1)], 1).flatten()
    return whole[None, -length:]


def covering(vocab_size: int, rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Random ids [rows, length] in which no id comes twice before every other came once."""
    turns = [torch.randperm(vocab_size, generator=generator) for _ in range(rows * length // vocab_size + 1)]
    return torch.cat(turns)[: rows * length].view(rows, length)


def extremes(bench: Bench, length: int) -> Tensor:
    """Two rows [2, T]: each id the model's likeliest next one, in turn with the unlikeliest, and alone."""
    V = bench.subject.vocab_size
    ids = torch.zeros(2, 1, dtype=torch.long, device=bench.subject.device)
    while ids.shape[1] < length:
        last = bench.logits(ids)[:, -1, :V]
        following = last.argmax(-1)
        if ids.shape[1] % 2 == 0:
            following[0] = last[0].argmin()
        ids = torch.cat([ids, following[:, None]], 1)
    return ids
