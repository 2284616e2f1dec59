"""Plants near-duplicates into a corpus and counts the pairs that stand on two sides of the split: a Markdown table.

`.venv/bin/python benchmarks/splits.py [--text FILE ...] [--seeds N] [--pairs N]`; the text is the standard library's
sources, made-up words, made-up Chinese and Thai, and the files given.
"""

import argparse
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
from assay.data.text.duplicates import near_duplicate_clusters
from assay.data.text.splitting import split_documents

LENGTHS = (5, 12, 25, 50, 200, 1000, 2000)
EDITS = (0.01, 0.05, 0.1, 0.2)
HOSTS = (1, 5, 20, 100)

Words = list[str]


@dataclass(frozen=True)
class Kind:
    """A kind of text: a long list of its words, and what joins them."""

    name: str
    words: Words
    joint: str = " "

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

    def row(self) -> str:
        """Counts, and the upper 95% bound of the share that crosses (Clopper and Pearson 1934, one-sided)."""
        n, k = self.pairs, self.crossing
        bound = 1.0 if k == n else float(stats.beta.ppf(0.95, k + 1, n - k))
        return f"{n} | {self.apart} | {k} | {100 * bound:.1f}%"


def edited(kind: Kind, words: Words, share: float, replace: bool, generator: np.random.Generator) -> Words:
    """Each word is changed with the probability `share`, and at least one.

    Those are replaced, or else (not `replace`) replaced, left out or preceded by another word, by chance.
    """
    chosen = generator.random(len(words)) < share
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
            edit = partial(edited, kind, share=share, replace=replace, generator=generator)
            plantings.append((label, lambda words, edit=edit: [kind.joint.join(edit(words))]))  # type: ignore[misc]
    for variant in VARIANTS:
        plantings.append(("written otherwise", lambda words, variant=variant: [variant(kind.joint.join(words))]))  # type: ignore[misc]
    for hosts in HOSTS:
        plantings.append((f"in {hosts} longer", lambda words, hosts=hosts: _hosts(kind, words, hosts, generator)))  # type: ignore[misc]
    for turn in range(pairs):
        for label, others in plantings:
            if turn * (int(label.split()[1]) if label.startswith("in ") else 1) >= pairs:
                continue
            words = next(fresh, None)
            if words is None:
                return groups
            groups.setdefault(label, []).append([kind.joint.join(words), *others(words)])
    return groups


def _hosts(kind: Kind, words: Words, hosts: int, generator: np.random.Generator) -> list[str]:
    """Texts of other words, 1.5 to 10 times as many, with `words` somewhere in between."""
    texts = []
    for _ in range(hosts):
        around = kind.draw(int(len(words) * generator.uniform(1.5, 10)), generator)
        cut = int(generator.integers(len(around)))
        texts.append(kind.joint.join([*around[:cut], *words, *around[cut:]]))
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
            "".join(chr(0x0E01 + n) for n in generator.integers(0, 46, size)) for size in generator.integers(2, 6, 5_000)
        ]
    ranks = 1 / (np.arange(len(vocabulary)) + 10)
    drawn = generator.choice(len(vocabulary), count, p=ranks / ranks.sum())
    return Kind(name, [vocabulary[n] for n in drawn], " " if name == "made-up words" else "")


def kinds(files: Sequence[str], generator: np.random.Generator) -> Iterator[Kind]:
    for name in ("made-up words", "made-up Chinese", "made-up Thai"):
        yield made_up(name, generator)
    library = read_documents(DataConfig(corpus="stdlib"), silent)
    yield Kind("stdlib", " ".join(document.text for document in library).split())
    for file in files:
        yield Kind(Path(file).stem, Path(file).read_text(encoding="utf-8").split())


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--text", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--by-kind", action="store_true")
    options = parser.parse_args()
    total: dict[tuple[str, str, int], Tally] = {}
    for seed in range(options.seeds):
        generator = np.random.default_rng(seed)
        for kind in kinds(options.text, generator):
            for length in LENGTHS:
                pairs = max(8, options.pairs * 50 // max(50, length))
                for label, tally in count(plant(kind, length, pairs, generator)).items():
                    sum_ = total.setdefault((kind.name if options.by_kind else "", label, length), Tally())
                    sum_.pairs += tally.pairs
                    sum_.apart += tally.apart
                    sum_.crossing += tally.crossing
    print("| planted | words | pairs | not joined | cross | at most |\n|---|---|---|---|---|---|")
    for (name, label, length), tally in sorted(total.items()):
        print(f"| {name} {label} | {length} | {tally.row()} |")
    print(false_joins())


if __name__ == "__main__":
    main()
