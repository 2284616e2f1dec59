"""Chains of calls, each of which agrees with the one before in a part of its rows.

A memory that is keyed by a part of a row takes one call of such a chain for another. Shapes: B rows, T tokens.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from assay.audit.probing.search import Search

LONG, FEWER = 160, 72
"""The length of rows that agree in more tokens than the shorter ones have; the second is for large models."""
CROWD, CROWDED, SINGLES = 32, 8, 24
"""Rows, and tokens in each, of a batch, and single rows after it: some fall together in a table of a thousand places.

Where the whole batch is the key, they do so in one of a few hundred.
"""


class Link(NamedTuple):
    """A call on `ids` [B, T], and what it has in common with the call before, in words."""

    ids: Tensor
    common: str


Fit = Callable[[int], int]
"""From a number of tokens to the largest up to it that the model takes, or the smallest of all."""


def chains(search: Search, vocab_size: int, fit: Fit) -> list[list[Link]]:
    """The chains to try; each has rows of its own, so that none meets what another left behind.

    In the first one every row differs from the one before in a token or a few: so two rows agree in any part of a row
    that leaves out a token (the first four ids, the first and last, every second one), in their sums, or as sets.
    """
    generator, few = torch.Generator().manual_seed(search.seed + 12), search.brief

    def drawn(rows: int, length: int) -> Tensor:
        return torch.randint(vocab_size, (rows, length), generator=generator)

    length = search.content
    tried = [_of_one_length(drawn(1, length), vocab_size, few), _of_batches(drawn(4, length))[: 3 if few else 4]]
    if fit(length - 1) < length:
        tried.append(_of_lengths(drawn(2, length), fit)[-3 if few else 0 :])
    long = fit(min(FEWER if few else LONG, search.longest))
    if long > length:
        row = drawn(1, long)
        last = [Link(row, ""), Link(_changed(row, long - 1, vocab_size), "all of many tokens but the last")]
        tried.append(last if few else _of_one_length(row, vocab_size, few=True))
    if not few:
        crowded = fit(CROWDED)
        singles = [Link(drawn(1, crowded), "nothing, but there were many others") for _ in range(SINGLES)]
        tried.append([Link(drawn(CROWD, crowded), ""), *singles])
    return tried


def likenesses(search: Search, vocab_size: int) -> list[Link]:
    """A batch of two rows, last, and before it batches that agree with it in what each says."""
    generator = torch.Generator().manual_seed(search.seed + 13)
    rows = torch.randint(vocab_size, (3, search.content), generator=generator)
    places, links = _exchanged(rows, vocab_size), []
    batch = rows[:2]
    if places is not None:
        swapped = batch.clone()
        swapped[:, places] = batch[:, places[::-1]]
        links.append(Link(swapped, "its tokens, in another order"))
    last, middle = (_changed(batch[1:], place, vocab_size) for place in (batch.shape[1] - 1, batch.shape[1] * 5 // 8))
    if search.brief:  # each agrees in its first row, too
        links += [
            Link(torch.cat([batch[:1], last]), "its first row and all tokens but the last"),
            Link(torch.cat([batch[:1], middle]), "its first row and all tokens but one"),
        ]
        return [*links, Link(batch, "")]
    links += [
        Link(rows[[1, 0]], "its rows, in another order"),
        Link(rows[[0, 2]], "its first row"),
        Link(_changed(batch, batch.shape[1] - 1, vocab_size), "all tokens but the last"),
        Link(_changed(batch, batch.shape[1] * 5 // 8, vocab_size), "all tokens but one"),
    ]
    return [*links, Link(batch, "")]


def _changed(rows: Tensor, place: int, vocab_size: int) -> Tensor:
    """The rows with another id at one place."""
    changed = rows.clone()
    changed[:, place] = (rows[:, place] + 1) % vocab_size
    return changed


def _exchanged(rows: Tensor, vocab_size: int) -> list[int] | None:
    """Two places in the middle, at which each of the `rows` gets two different ids; None in the shortest rows."""
    middle = rows.shape[1] // 2
    if rows.shape[1] < 8:
        return None
    rows[:, middle] = (rows[:, middle + 2] + 1) % vocab_size
    return [middle, middle + 2]


def _of_one_length(row: Tensor, vocab_size: int, few: bool) -> list[Link]:
    """Single rows [1, T] that differ from the one before in a token, in the order of two, or in three of one sum."""
    length, places = row.shape[1], _exchanged(row, vocab_size)
    links = [Link(row, "")]
    if places is not None:
        row = row.clone()
        row[:, places] = row[:, places[::-1]]
        links.append(Link(row, "its tokens, in another order"))
    even, odd = length * 5 // 8 // 2 * 2, (length * 5 // 8 - 3) | 1
    changes = {even: "all tokens but one", length - 1: "all tokens but the last"}
    if not few:
        changes |= {odd: "all tokens but one", length - 2: "all tokens but one near the end", 0: "all but the first"}
    for place, words in changes.items():
        if 0 <= place < length:
            row = _changed(row, place, vocab_size)
            links.append(Link(row, words))
    if places is not None and vocab_size >= 4 and not few:
        base, moved = row.clone(), row.clone()
        base[0, places[0] - 2 : places[0] + 1] = torch.tensor([1, 2, 1])
        moved[0, places[0] - 2 : places[0] + 1] = torch.tensor([2, 0, 2])
        links += [Link(base, "all tokens but three"), Link(moved, "the sums of its ids, also weighted by position")]
    return links


def _of_batches(rows: Tensor) -> list[Link]:
    """Batches of two of the four `rows` [4, T]: the same rows in other places, and the same first or last row."""
    told: Sequence[tuple[list[int], str]] = (
        ([0, 1], ""),
        ([1, 0], "its rows, in another order"),
        ([1, 2], "its first row"),
        ([3, 2], "its last row"),
    )
    return [Link(rows[these], words) for these, words in told]


def _of_lengths(rows: Tensor, fit: Fit) -> list[Link]:
    """Single rows of several lengths, made of two `rows` [2, T]; all are lengths that `fit`."""
    first, second = rows[:1], rows[1:]
    length, half = first.shape[1], fit(first.shape[1] // 2)
    longer = next(n for n in range(half + 1, length + 1) if fit(n) == n) if half < length else length
    mixed = torch.cat([second[:, : half // 2], first[:, half // 2 :]], 1)[:, :longer]
    return [
        Link(first[:, : fit(length - 1)], ""),
        Link(first, "all its tokens, and more follow"),
        Link(first[:, :half], "the tokens that it has, and more followed"),
        Link(torch.cat([first[:, :half], second[:, half:]], 1), "all its tokens, and others follow"),
        Link(second[:, :half], "a part in the middle"),
        Link(mixed, "the first tokens, and it is longer"),
        Link(mixed[:, :half], "the tokens that it has, and more followed"),
    ]
