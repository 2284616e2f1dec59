"""Mutants that remember calls by a part of a row, or decode wrongly by many habits, each with its sound twin."""

import gallery_habits as habits
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


def decoder(habit: type[habits.Attentive], fault: habits.Fault) -> Mutant:
    """A mutant that decodes by a habit with a fault, and its twin without one."""
    return planted(f"{habit.__name__}-{fault}", lambda b: habit(fault if b else ""), "parity", "")


DECODERS = [
    *(decoder(habit, "position") for habit in habits.Attentive.__subclasses__() if habit in habits.DECODING),
    *(decoder(habit, "forgets") for habit in (habits.StartPos, habits.StepOrNone, habits.PrefillDecode)),
    *(decoder(habit, "batch") for habit in (habits.StartPos, habits.StepOrNone, habits.AskedFor)),
    *(decoder(habit, "shared") for habit in (habits.StepOrNone, habits.InPlaceCache)),
    *(decoder(habit, "kept") for habit in (habits.CacheInside, habits.Stateful)),
    planted("ring-in-its-second-round", habits.Rolling, "parity", ""),
    planted("generates-with-shifted-positions", habits.Generating, "parity", ""),
]
