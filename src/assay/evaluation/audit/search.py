"""Where the audit looks: lengths, positions, contents and how many of each, from the size of the model alone.

The plan never depends on timings, so that an audit says the same on every machine.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

BOUNDARIES = (16, 32, 64, 128, 256)
OTHER_BOUNDARIES = (80, 96, 100, 120, 150, 160, 192, 200, 250, 300)
"""Chunk lengths that are no powers of two and begin past the sequences in which every token is replaced."""
LENGTHS = (1, 2, 3, 15, 16, 17, 33, 63, 64, 65, 128, 129, 256, 257)
MANY, FEW = 3, 4
LARGE = 1_500_000
"""Parameters from which a search looks at fewer positions, to stay within seconds."""


@dataclass(frozen=True)
class Search:
    """Lengths in tokens: `longest`, `middle` for gradients and rows, `short` for one token at a time.

    `cuts` are the positions t after which everything is replaced in the longest sequences, `training_cuts` those tried
    in training mode too; `lengths` the prefixes that are compared with the whole.
    """

    longest: int
    middle: int
    short: int
    content: int
    cuts: tuple[int, ...]
    training_cuts: tuple[int, ...]
    gradient_cuts: tuple[int, ...]
    lengths: tuple[int, ...]
    seed: int
    multiple: int = 1
    """The model takes lengths that are multiples of this many tokens alone."""
    brief: bool = False
    """A large model: the weights as given are searched over time in eval mode only, the redrawn ones in full."""


def widths_of(model: nn.Module) -> frozenset[int]:
    """Sizes that many parameters have, as the width of the model.

    A sequence as long as one could not be told from it in the shape of a tensor, when a leak is located.
    """
    count = Counter(size for parameter in model.parameters() for size in set(parameter.shape))
    return frozenset(size for size, parameters in count.items() if parameters >= MANY)


def clear_of(length: int, widths: frozenset[int]) -> int:
    """The largest length up to `length` that is no width, of a few at least."""
    while length in widths and length > FEW:
        length -= 1
    return length


def plan_search(
    longest: int, parameters: int, thorough: bool, seed: int, multiple: int = 1, widths: frozenset[int] = frozenset()
) -> Search:
    """The search of a model of so many parameters, up to `longest` tokens; `thorough` leaves nothing out.

    All lengths but those of prefixes are multiples of `multiple`, and where that is 1 none of `widths`.
    """

    def whole(length: int) -> int:
        if multiple == 1:
            return clear_of(min(length, longest), widths)
        return max(min(length, longest) // multiple * multiple, min(multiple, longest))

    longest = whole(longest)
    small = parameters < LARGE or thorough
    multiples = [m for m in (*BOUNDARIES, *(range(512, longest, 256) if thorough else ())) if m < longest]
    cuts = [0, 5, longest // 2 - 10, longest - 2, *(t for m in multiples for t in (m - 1, m))]
    cuts += [m - 1 for m in OTHER_BOUNDARIES]
    if thorough:
        cuts += [t for m in range(16, longest, 16) for t in (m - 1, m, m + 1)]
    elif not small:
        cuts = [0, 127, longest // 2 - 10, 256, longest - 2]
    lengths = {*(LENGTHS if small else (1, 2, 17, 64, 129, 257)), longest - 1, *(multiples if thorough else ())}
    return Search(
        longest=longest,
        middle=whole(67 if small else 34),
        short=whole(131 if thorough else 67 if small else 34),
        content=whole(40 if small else 24),
        cuts=_inside(cuts, longest),
        training_cuts=_inside([0, 63, 150, 256, longest - 2] if small else [150, 256], longest),
        gradient_cuts=_inside([63, 128, 256] if small else [256], longest),
        lengths=tuple(sorted(n for n in lengths if 0 < n < longest)),
        seed=seed,
        multiple=multiple,
        brief=not small,
    )


def lighter(search: Search) -> Search:
    """Fewer positions, for the weights as given: the redrawn copy is searched in full, and hides less."""
    return replace(
        search,
        short=search.content,
        cuts=search.cuts[::2],
        training_cuts=() if search.brief else search.training_cuts[1::2],
        gradient_cuts=(),
        lengths=search.lengths[::2],
    )


@dataclass(frozen=True)
class Probe:
    """Two sequences of ids [T] that are the same up to position `cut` and differ after it; `content` says in what."""

    base: Tensor
    changed: Tensor
    cut: int
    content: str


def long_probes(search: Search, vocab_size: int, special: tuple[int, ...], cuts: tuple[int, ...]) -> list[Probe]:
    """One random sequence, and everything after each cut replaced; special ids stand at the cuts and after them."""
    if search.longest < 2:
        return []
    generator = torch.Generator().manual_seed(search.seed)
    base = _random(vocab_size, search.longest, generator)
    for number, cut in enumerate(cuts):
        base[cut] = special[number % len(special)]
    probes = []
    for number, cut in enumerate(cuts):
        changed = _other(base, vocab_size, generator)
        changed[: cut + 1] = base[: cut + 1]
        wanted = special[(number + 1) % len(special)]
        if base[cut + 1] != wanted:
            changed[cut + 1] = wanted
        probes.append(Probe(base, changed, cut, "random ids"))
    return probes


def single_probes(search: Search, vocab_size: int) -> list[Probe]:
    """Every token but the first of a short sequence replaced, one at a time: all pairs of positions are looked at."""
    generator = torch.Generator().manual_seed(search.seed + 1)
    base = _random(vocab_size, search.short, generator)
    other = _other(base, vocab_size, generator)
    probes = []
    for place in range(1, search.short):
        changed = base.clone()
        changed[place] = other[place]
        probes.append(Probe(base, changed, place - 1, "random ids"))
    return probes


def content_probes(search: Search, vocab_size: int, special: tuple[int, ...]) -> list[Probe]:
    """Constant, repeated and special ids before the cut, and after it."""
    T = search.content
    if T < 2:
        return []
    generator = torch.Generator().manual_seed(search.seed + 2)
    cut = max(0, min(T - 2, T // 2 + 1))
    base = _random(vocab_size, T, generator)
    probes = []
    for name, content in _contents(T, vocab_size, special, generator):
        for before, after, place in ((content, base, "before"), (base, content, "after")):
            first = torch.cat([before[: cut + 1], _other(after, vocab_size, generator)[cut + 1 :]])
            second = torch.cat([before[: cut + 1], after[cut + 1 :]])
            probes.append(Probe(first, second, cut, f"{name} {place} the cut"))
    return probes


def mixed_row(search: Search, vocab_size: int, special: tuple[int, ...]) -> Tensor:
    """One of the longest sequences [1, T]: random ids with special ones here and there."""
    generator = torch.Generator().manual_seed(search.seed + 6)
    ids = torch.randint(vocab_size, (1, search.longest), generator=generator)
    places = torch.arange(min(3, search.longest), search.longest, 11)
    ids[0, places] = torch.tensor(special)[torch.arange(len(places)) % len(special)]
    return ids


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
    """Ids of which none equals that of `ids` at its place."""
    return (ids + 1 + torch.randint(vocab_size - 1, ids.shape, generator=generator)) % vocab_size


def _inside(cuts: list[int], length: int) -> tuple[int, ...]:
    return tuple(sorted({cut for cut in cuts if 0 <= cut < length - 1}))
