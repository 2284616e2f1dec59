"""Plants near-duplicates into a corpus and counts the pairs that stand on two sides of the split: a Markdown table.

`.venv/bin/python benchmarks/splits.py [--text FILE ...] [--seeds N] [--pairs N]`; the text is the standard library's
sources, made-up words, made-up Chinese and Thai, and the files given.
"""

import argparse
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

from assay.data.config import DataConfig
from assay.data.corpus import SPLITS, Document, read_documents, silent
from assay.data.text.overlap.duplicates import near_duplicate_clusters
from assay.data.text.splitting import split_documents

LENGTHS = (5, 12, 25, 50, 200, 1000, 2000)
EDITS = (0.01, 0.05, 0.1, 0.2)
HOSTS = (1, 5, 20, 100)

Words = list[str]


@dataclass(frozen=True)
class Kind:
    """A kind of text: a long list of its words, each with what stands between it and the next."""

    name: str
    words: Words

    def passages(self, length: int, generator: np.random.Generator) -> Iterator[Words]:
        """Passages of so many words that do not overlap, in random order; a few words lie between."""
        places = np.arange(len(self.words) // (length + 3)) * (length + 3)
        for start in generator.permutation(places).tolist():
            yield self.words[start : start + length]

    def draw(self, count: int, generator: np.random.Generator) -> Words:
        """So many words, each by itself."""
        return [self.words[n] for n in generator.integers(0, len(self.words), count)]


@dataclass
class Tally:
    """Pairs planted, pairs that are in no cluster together, and pairs that cross."""

    pairs: int = 0
    apart: int = 0
    crossing: int = 0

    def add(self, other: "Tally") -> None:
        self.pairs += other.pairs
        self.apart += other.apart
        self.crossing += other.crossing

    def bound(self) -> float:
        """The upper 99% bound of the share that crosses (Clopper and Pearson 1934, one-sided)."""
        n, k = self.pairs, self.crossing
        return 1.0 if k == n else float(stats.beta.ppf(0.99, k + 1, n - k))


def edited(kind: Kind, words: Words, share: float, replace: bool, generator: np.random.Generator) -> Words:
    """Each word is changed with the probability `share`; where that leaves all as they are, one is.

    Those are replaced, or else (not `replace`) replaced, left out or preceded by another word, by chance.
    """
    chosen = generator.random(len(words)) < share
    if not chosen.any():
        chosen[int(generator.integers(len(words)))] = True
    result: Words = []
    for word, change in zip(words, chosen, strict=True):
        how = 3 if not change else 0 if replace else int(generator.integers(3))
        if how < 2:
            result += kind.draw(1, generator)
        if how % 2:
            result.append(word)
    return result


def _full_stop(text: str) -> str:
    return text + "."


def _marks(text: str) -> str:
    return "\u201c" + text.replace(" ", ",  ").upper() + "!\u201d"


def _forms(text: str) -> str:
    """Accents as characters of their own, and letters of full width."""
    return unicodedata.normalize("NFD", text).translate({code: code + 0xFEE0 for code in range(ord("a"), ord("z"))})


VARIANTS = (_full_stop, _marks, _forms)


def plant(kind: Kind, length: int, pairs: int, generator: np.random.Generator) -> dict[str, list[list[str]]]:
    """{what is planted: groups of texts}: the first text of each group is what the others are near-duplicates of.

    Fewer than `pairs` of each where the text is too short for as many passages.
    """
    groups: dict[str, list[list[str]]] = {}
    fresh = kind.passages(length, generator)
    plantings: list[tuple[str, Callable[[Words], list[str]]]] = []
    for share in EDITS:
        for replace in (True, False):
            label = f"{share:.0%} of the words {'replaced' if replace else 'edited'}"
            edit = partial(_edited_text, kind, share=share, replace=replace, generator=generator)
            plantings.append((label, edit))
    plantings += [("written otherwise", partial(_varied, variant=variant)) for variant in VARIANTS]
    plantings += [(f"in {n} longer", partial(_hosts, kind, hosts=n, generator=generator)) for n in HOSTS]
    for turn in range(pairs):
        for label, others in plantings:
            if turn * (int(label.split()[1]) if label.startswith("in ") else 1) >= pairs:
                continue
            words = next(fresh, None)
            if words is None:
                return groups
            groups.setdefault(label, []).append(["".join(words), *others(words)])
    return groups


def _edited_text(kind: Kind, words: Words, share: float, replace: bool, generator: np.random.Generator) -> list[str]:
    return ["".join(edited(kind, words, share, replace, generator))]


def _varied(words: Words, variant: Callable[[str], str]) -> list[str]:
    return [variant("".join(words))]


def _hosts(kind: Kind, words: Words, hosts: int, generator: np.random.Generator) -> list[str]:
    """Texts of other words, 1.5 to 10 times as many but at most 3,000, with `words` somewhere in between."""
    texts = []
    for _ in range(hosts):
        around = kind.draw(int(min(len(words) * generator.uniform(1.5, 10), 3_000)), generator)
        cut = int(generator.integers(len(around)))
        texts.append("".join([*around[:cut], *words, *around[cut:]]))
    return texts


def count(groups: dict[str, list[list[str]]]) -> dict[str, Tally]:
    """Split all the texts as one corpus, and count for each kind of planting."""
    texts = [text for each in groups.values() for group in each for text in group]
    labels = dict(zip(texts, near_duplicate_clusters(texts).tolist(), strict=True))
    split = split_documents("planted", [Document(str(n), text) for n, text in enumerate(texts)], silent)
    side = {document.text: name for name in SPLITS for document in split.split(name)}
    tallies: dict[str, Tally] = {}
    for label, each in groups.items():
        tally = tallies.setdefault(label, Tally())
        for first, *others in each:
            for other in others:
                if other == first or other not in side or first not in side:
                    continue  # an exact copy, which is dropped
                tally.pairs += 1
                tally.apart += labels[first] != labels[other]
                tally.crossing += side[first] != side[other]
    return tallies


def made_up(name: str, generator: np.random.Generator, count: int = 1_000_000) -> Kind:
    """Words, Chinese characters or Thai syllables, drawn with the frequencies of Zipf's law."""
    if name == "made-up words":
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        vocabulary = ["".join(generator.choice(letters, size)) for size in generator.integers(2, 9, 20_000)]
    elif name == "made-up Chinese":
        vocabulary = [chr(0x4E00 + n) for n in range(4_000)]
    else:
        vocabulary = [
            "".join(chr(0x0E01 + n) for n in generator.integers(0, 46, size))
            for size in generator.integers(2, 6, 5_000)
        ]
    ranks = 1 / (np.arange(len(vocabulary)) + 10)
    drawn = generator.choice(len(vocabulary), count, p=ranks / ranks.sum())
    space = " " if name == "made-up words" else ""
    return Kind(name, [vocabulary[n] + space for n in drawn])


def kinds(files: Sequence[str], generator: np.random.Generator) -> Iterator[Kind]:
    for name in ("made-up words", "made-up Chinese", "made-up Thai"):
        yield made_up(name, generator)
    library = read_documents(DataConfig(corpus="stdlib"), silent)
    yield Kind("stdlib", re.findall(r"\w+\W*", "\n".join(document.text for document in library)))
    for file in files:
        yield Kind(Path(file).stem, re.findall(r"\w+\W*", Path(file).read_text(encoding="utf-8")))


def false_joins() -> str:
    """What is joined in the standard library, in which few files are near-duplicates, and how long it takes."""
    texts = [document.text for document in read_documents(DataConfig(corpus="stdlib"), silent)]
    started = time.perf_counter()
    clusters = Counter(near_duplicate_clusters(texts).tolist())
    seconds = time.perf_counter() - started
    size = sum(len(text.encode()) for text in texts) / 1e6
    joined = sum(n for n in clusters.values() if n > 1)
    return (
        f"stdlib: {len(texts)} files of {size:.1f} MB in {seconds:.1f} s: {len(clusters)} clusters, {joined} files "
        f"joined to others, the largest cluster {max(clusters.values())} files"
    )


def table(tallies: dict[tuple[str, int], dict[str, Tally]]) -> list[str]:
    """Markdown: for each planting and length the share that crosses, and what is promised.

    Promised is the upper bound over all kinds of text, or the share in the worst kind where that is more.
    """
    lengths = sorted({length for _, length in tallies})
    lines = ["| planted | " + " | ".join(f"{length:,} words" for length in lengths) + " |"]
    lines.append("|---" * (len(lengths) + 1) + "|")
    for label in dict.fromkeys(label for label, _ in tallies):
        cells = []
        for length in lengths:
            each = list(tallies[label, length].values())
            pooled = Tally()
            for tally in each:
                pooled.add(tally)
            worst = max(tally.crossing / tally.pairs for tally in each)
            cells.append(f"{pooled.crossing / pooled.pairs:.1%}, {max(worst, pooled.bound()):.1%}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--text", nargs="*", default=[], help="files of text to plant in as well")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=120, help="of each planting, length, kind of text and seed")
    parser.add_argument("--details", action="store_true", help="counts by kind of text too")
    options = parser.parse_args()
    started = time.perf_counter()
    tallies: dict[tuple[str, int], dict[str, Tally]] = {}
    for seed in range(options.seeds):
        generator = np.random.default_rng(seed)
        for kind in kinds(options.text, generator):
            for length in LENGTHS:
                pairs = min(options.pairs, max(20, 200 * options.pairs // length))
                for label, tally in count(plant(kind, length, pairs, generator)).items():
                    tallies.setdefault((label, length), {}).setdefault(kind.name, Tally()).add(tally)
    print(*table(tallies), sep="\n")
    if options.details:
        for (label, length), each in tallies.items():
            for name, tally in each.items():
                print(f"{label}, {length} words, {name}: {tally}")
    fewest = min(tally.pairs for each in tallies.values() for tally in each.values())
    total = sum(tally.pairs for each in tallies.values() for tally in each.values())
    print(f"{total} pairs, {fewest} or more in each cell and kind of text; {time.perf_counter() - started:.0f} s")
    print(false_joins())


if __name__ == "__main__":
    main()
