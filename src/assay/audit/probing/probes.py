"""The sequences that the audit tries: pairs that are equal up to a position (the cut), with many kinds of contents.

Shapes: T tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.audit.probing.search import Search

LAST = 128
"""So many of the vocabulary's last ids are looked at beside the special ones: there stand separators added to it."""


@dataclass(frozen=True)
class Probe:
    """Two sequences of ids [T] that are equal up to and at position `cut` and differ after it.

    `content` says in words what kind of ids they have.
    """

    base: Tensor
    changed: Tensor
    cut: int
    content: str


def long_probes(
    search: Search, vocab_size: int, special: tuple[int, ...], cuts: tuple[int, ...], known: Tensor
) -> list[Probe]:
    """One random sequence paired with copies in which everything after a cut is replaced.

    Special ids stand at the cuts and right after them, and behind these the last ids of the vocabulary. For a large
    model the sequence is `known` [T], whose logits are.
    """
    if search.longest < 2:
        return []
    generator = torch.Generator().manual_seed(search.seed)
    base = known if search.brief else _random(vocab_size, search.longest, generator)
    last = last_ids(vocab_size, search.seed)
    at_cuts = torch.cat([torch.tensor(special), last])
    for number, cut in enumerate(() if search.brief else cuts):
        base[cut] = at_cuts[number % len(at_cuts)]
    probes = []
    for number, cut in enumerate(cuts):
        whole = next((base[:length] for length in search.rows if length > cut + 1), base)
        changed = _other(whole, vocab_size, generator)
        changed[: cut + 1] = whole[: cut + 1]
        last = last.roll(-len(_spread(changed, whole, last, cut + 2)))
        wanted = special[(number + 1) % len(special)]
        if base[cut + 1] != wanted:
            changed[cut + 1] = wanted
        probes.append(Probe(whole, changed, cut, "random ids"))
    return probes


def _spread(ids: Tensor, other: Tensor, values: Tensor, first: int) -> Tensor:
    """Put as many `values` as fit into `ids` [T] from place `first` on, but where `other` [T] has the same; those."""
    fitting = values[: max(0, len(ids) - first)]
    places = torch.arange(first, first + len(fitting))
    ids[places] = torch.where(other[places] == fitting, ids[places], fitting)
    return fitting


def last_ids(vocab_size: int, seed: int) -> Tensor:
    """The LAST ids of the vocabulary, or all of a small one, in an order of their own."""
    count = min(LAST, vocab_size)
    return vocab_size - 1 - torch.randperm(count, generator=torch.Generator().manual_seed(seed + 14))


def single_probes(search: Search, vocab_size: int) -> list[Probe]:
    """A short sequence paired with copies that replace one token each, every token but the first in turn.

    So every pair of an earlier and a later position is tested.
    """
    generator = torch.Generator().manual_seed(search.seed + 1)
    base = _random(vocab_size, search.short, generator)
    other = _other(base, vocab_size, generator)
    probes = []
    for place in range(1, search.short, search.stride):
        changed = base.clone()
        changed[place] = other[place]
        probes.append(Probe(base, changed, place - 1, "random ids"))
    return probes


def content_probes(search: Search, vocab_size: int, special: tuple[int, ...]) -> list[Probe]:
    """Probes with constant, periodic and special ids before the cut, and with such ids after it."""
    T = search.content
    if T < 2:
        return []
    generator = torch.Generator().manual_seed(search.seed + 2)
    cut = max(0, min(T - 2, T // 2 + 1))
    base = _random(vocab_size, T, generator)
    contents = list(_contents(T, vocab_size, special, generator))
    if search.brief:  # each content once before the cut, paired with the next one after it, and once after it
        following = [content for _, content in (*contents[1:], contents[0])]
        pairs = [(name, content, base, after) for (name, content), after in zip(contents, following, strict=True)]
        if not search.lean:
            pairs += [(name, base, base, content) for name, content in contents]
    else:
        pairs = [
            (name, *sides)
            for name, content in contents
            for sides in (
                (content, _other(base, vocab_size, generator), base),
                (base, _other(content, vocab_size, generator), content),
            )
        ]
    return [
        Probe(
            torch.cat([before[: cut + 1], one[cut + 1 :]]), torch.cat([before[: cut + 1], other[cut + 1 :]]), cut, name
        )
        for name, before, one, other in pairs
    ]


def mixed_row(search: Search, vocab_size: int, special: tuple[int, ...]) -> Tensor:
    """A sequence [1, T] of the longest length: random ids with special ones at every 11th place."""
    generator = torch.Generator().manual_seed(search.seed + 6)
    ids = torch.randint(vocab_size, (1, search.longest), generator=generator)
    places = torch.arange(min(3, search.longest), search.longest, 11)
    ids[0, places] = torch.tensor(special)[torch.arange(len(places)) % len(special)]
    return ids


def repeating_rows(search: Search, vocab_size: int) -> Tensor:
    """Sequences [3, T]: a constant id, a repeated pair, and random ids before a constant one.

    T is the longest length; for a large model there are fewer rows, half as long.
    """
    generator = torch.Generator().manual_seed(search.seed + 7)
    T = search.repeating
    few = T // 4
    constant, *pair = _random(vocab_size, 3, generator).tolist()
    rows = torch.full((3, T), constant)
    rows[1] = torch.tensor(pair).repeat(T // 2 + 1)[:T]
    rows[2, :few] = _random(vocab_size, few, generator)
    return rows[: 1 if search.lean else 2] if search.brief else rows


CONTENTS = ("random ids", "a constant id", "a repeated pair", "a repeated triple", "each special id")


def _contents(
    T: int, vocab_size: int, special: tuple[int, ...], generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    for value in special:
        yield f"id {value}", torch.full((T,), value)
    yield "a constant id", _random(vocab_size, 1, generator).expand(T)
    for name, period in (("a repeated pair", 2), ("a repeated triple", 3)):
        yield name, _random(vocab_size, period, generator).repeat(T // period + 1)[:T]


def _random(vocab_size: int, length: int, generator: torch.Generator) -> Tensor:
    return torch.randint(vocab_size, (length,), generator=generator)


def _other(ids: Tensor, vocab_size: int, generator: torch.Generator) -> Tensor:
    """Random ids that differ from `ids` at every position."""
    return (ids + 1 + torch.randint(vocab_size - 1, ids.shape, generator=generator)) % vocab_size
