"""What docs/corpora.md promises of splits holds for near-duplicates planted with another seed (a small part of it)."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("planted_splits", ROOT / "benchmarks" / "splits.py")
assert SPEC is not None
assert SPEC.loader is not None
splits = importlib.util.module_from_spec(SPEC)
sys.modules["planted_splits"] = splits
SPEC.loader.exec_module(splits)


def promises() -> dict[tuple[str, int], float]:
    """{(what is planted, words): the share that crosses at most}, from the table."""
    rows = [line.strip("| \n").split(" | ") for line in (ROOT / "docs/corpora.md").read_text().splitlines()]
    [head] = [row for row in rows if row[0] == "planted"]
    lengths = [int(cell.split()[0].replace(",", "")) for cell in head[1:]]
    body = [row for row in rows if len(row) == len(head) and re.fullmatch(r"[\d.]+%, [\d.]+%", row[1])]
    cells = {row[0]: [float(cell.split(", ")[1].rstrip("%")) / 100 for cell in row[1:]] for row in body}
    return {(label, length): cell for label, row in cells.items() for length, cell in zip(lengths, row, strict=True)}


@pytest.mark.parametrize("name", ["made-up words", "made-up Chinese", "made-up Thai"])
def test_what_crosses_is_at_most_what_is_promised(name: str) -> None:
    """Fails by chance once in ten thousand cells, if as much crosses as is promised."""
    generator = np.random.default_rng(1_000)
    kind = splits.made_up(name, generator, 30_000)
    promised = promises()
    for length in (12, 50):
        for label, tally in splits.count(splits.plant(kind, length, 30, generator)).items():
            chance = stats.binom.sf(tally.crossing - 1, tally.pairs, promised[label, length])
            assert chance > 1e-4, (label, length, tally)
            assert tally.pairs >= 10
