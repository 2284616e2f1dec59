"""Fits a search to a model that takes some lengths only, such as multiples of 64."""

from dataclasses import replace

from assay.audit.calling.lengths import Lengths
from assay.audit.probing.search import Search

TOKENS = 10_000
"""The most tokens in rows that replace one token each: the smallest length that a model takes may be a long one."""
PREFIXES = 24
LONG = 320
"""Of a model that takes no fewer tokens than these, fewer positions are looked at, as of one that costs much."""


def fitted(search: Search, takes: Lengths) -> Search:
    """The search with lengths that the model takes; where these are long, fewer tokens are replaced one at a time."""
    if takes.every:
        return search
    short = takes.fit(search.short) if search.short > 1 else search.short
    prefixes = [length for length in takes.taken if length < takes.longest]
    known = [length for length in search.lengths if length in takes.taken]
    if takes.taken[0] > LONG:
        search = replace(search, brief=True, cuts=tuple(cut for cut in search.cuts if (cut + 1) % 16 == 0))
    return replace(
        search,
        longest=takes.longest,
        middle=takes.fit(search.middle),
        short=short,
        content=takes.fit(search.content),
        repeated=tuple(sorted({takes.fit(length) for length in search.repeated} - {takes.fit(search.repeating)})),
        repeating=takes.fit(search.repeating),
        rows=tuple(sorted({takes.fit(length) for length in search.rows} - {takes.longest})),
        lengths=tuple(known if len(known) > PREFIXES else prefixes[:: max(1, len(prefixes) // PREFIXES)]),
        stride=max(1, 2 * (short * short // TOKENS // 2) + 1),
    )
