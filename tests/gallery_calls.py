"""Mutants that remember calls by a part of a row, with twins that remember by the whole of it."""

from gallery import Mutant, layer, planted
from gallery_memos import (
    KEYS,
    WHOLE,
    CachedByLength,
    ContinuedRow,
    HiddenByStart,
    Key,
    LastRowGlobally,
    Remembering,
    RowByRow,
)


def memo(name: str, key: Key, last_only: bool = False, training_only: bool = False) -> Mutant:
    """A mutant that remembers batches by `key`; its twin by all of their ids."""
    return planted(name, lambda b: Remembering(key if b else WHOLE, last_only, training_only), "isolation", "")


CALLS = [
    *(memo(f"memo-by-{name}", key) for name, key in KEYS.items()),
    memo("memo-of-the-last-call", KEYS["first-and-last-id"], last_only=True),
    memo("memo-in-training", KEYS["first-four-ids"], training_only=True),
    planted("memo-of-rows", RowByRow, "isolation", ""),
    planted("row-taken-for-a-continuation", ContinuedRow, "isolation", ""),
    layer("hidden-by-first-input", HiddenByStart, "isolation"),
    layer("last-row-in-a-global", LastRowGlobally, "isolation"),
    layer("lru-cache-by-length", CachedByLength, "isolation"),
]
