"""Chains of calls, each of which agrees with the one before in a part of its rows.

A memory that is keyed by a part of a row takes one call of such a chain for another. Shapes: B rows, T tokens.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from assay.audit.probing.search import Search

LONG = 160
"""The length of rows that agree in more tokens than the shorter ones have."""
CROWD, CROWDED = 32, 8
"""Rows, and tokens in each, of two batches of which some rows fall together in a table of up to a thousand places."""


class Link(NamedTuple):
    """A call on `ids` [B, T], and what it has in common with the call before, in words."""

    ids: Tensor
    common: str


def chains(search: Search, vocab_size: int, few: bool) -> list[list[Link]]:
    """The chains to try; each has rows of its own, so that none meets what another left behind.

    In the first one every row differs from the one before in a token or a few: so two rows agree in any part of a row
    that leaves out a token (the first four ids, the first and last, every second one), in their sums, or as sets.
    """
    generator = torch.Generator().manual_seed(search.seed + 12)

    def drawn(rows: int, length: int) -> Tensor:
        return torch.randint(vocab_size, (rows, length), generator=generator)

    length, step = search.content, search.multiple
    tried = [_of_one_length(drawn(1, length), vocab_size, few or search.brief), _of_batches(drawn(4, length))]
    if length > step and not few:
        tried.append(_of_lengths(drawn(2, length), step))
    if not few and not search.brief:
        long = min(LONG, search.longest) // step * step
        if long > length:
            tried.append(_of_one_length(drawn(1, long), vocab_size, few=True))
        crowded = min(search.longest, max(CROWDED // step * step, step))
        tried.append([Link(drawn(CROWD, crowded), words) for words in ("", "the shape")])
    return tried


def _of_one_length(row: Tensor, vocab_size: int, few: bool) -> list[Link]:
    """Single rows [1, T] that differ from the one before in one token, in the order of two, or in three with one sum."""
    links, length = [Link(row, "")], row.shape[1]
    even, odd = length * 5 // 8 // 2 * 2, (length * 5 // 8 - 3) | 1
    places = {even: "all tokens but one", length - 1: "all tokens but the last"}
    if not few:
        places |= {odd: "all tokens but one", length - 2: "all tokens but one near the end", 0: "all but the first"}
    for place, words in places.items():
        if 0 <= place < length:
            row = row.clone()
            row[0, place] = (row[0, place] + 1) % vocab_size
            links.append(Link(row, words))
    middle = length // 2
    if length >= 8:
        row = row.clone()
        row[0, middle] = (row[0, middle + 2] + 1) % vocab_size  # so that the two differ
        swapped = row.clone()
        swapped[0, [middle, middle + 2]] = row[0, [middle + 2, middle]]
        links += [Link(row, "all tokens but one"), Link(swapped, "its tokens, in another order")]
    if length >= 8 and vocab_size >= 4 and not few:
        base, moved = swapped.clone(), swapped.clone()
        base[0, middle - 2 : middle + 1] = torch.tensor([1, 2, 1])
        moved[0, middle - 2 : middle + 1] = torch.tensor([2, 0, 2])
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


def _of_lengths(rows: Tensor, step: int) -> list[Link]:
    """Single rows of several lengths, made of two `rows` [2, T]; lengths are multiples of `step`."""
    first, second = rows[:1], rows[1:]
    length = first.shape[1]
    half, quarter = (max(length // part // step * step, step) for part in (2, 4))
    return [
        Link(first[:, : length - step], ""),
        Link(first, "all its tokens, and more follow"),
        Link(first[:, :half], "the tokens that it has, and more followed"),
        Link(torch.cat([first[:, :half], second[:, half:]], 1), "all its tokens, and others follow"),
        Link(second[:, :half], "a part in the middle"),
        Link(first[:, : min(half + step, length)], "nothing, and one token is added"),
        Link(torch.cat([first[:, :quarter], second[:, quarter:]], 1), "the first tokens, and it is longer"),
    ]
