"""Splits documents into train, validation and test: duplicates are dropped, near-duplicates stay on one side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from assay.analysis.wording import counted
from assay.data.corpus import SPLITS, Document, Split, Tell
from assay.data.text.overlap.components import Components
from assay.data.text.overlap.duplicates import content_hash, near_duplicate_clusters
from assay.errors import RequestError

SplitBy = Literal["hash", "position"]

SHARE = 0.1
"""The share of the bytes up to which validation and test are filled, each."""

LARGE_CLUSTER = 0.25
"""The share of the bytes from which a cluster of near-duplicates is told of."""


@dataclass(frozen=True)
class SplitDocuments:
    """Documents by split, each in the order of the corpus, and counts of duplicates."""

    train: list[Document]
    validation: list[Document]
    test: list[Document]
    duplicates_dropped: int
    near_duplicate_clusters: int
    """The number of clusters of two or more near-duplicates; 0 where all splits are official."""
    official: bool
    """Whether any split is an official one, that is, comes with the corpus."""
    made: tuple[Split, ...]
    """The splits that the corpus does not have."""

    def split(self, name: Split) -> list[Document]:
        documents: list[Document] = getattr(self, name)
        return documents


def split_documents(corpus: str, documents: Sequence[Document], progress: Tell, by: SplitBy = "hash") -> SplitDocuments:
    """Split `documents`; a split that stays empty is a RequestError that names `--corpus`.

    Official validation and test documents are kept as they are, and copies of them in train are dropped. A split that
    the corpus does not have is filled with whole clusters of near-duplicates until it has a tenth of the bytes. `by`
    "hash" takes clusters in the order of their hashes; "position" takes them from the end of the corpus, test being the
    very end. One cluster always goes to train: by hash the largest, by position the first. Every split gets a cluster.
    """
    kept, dropped = _without_duplicates([each for each in documents if each.text.strip()])
    official = {each.split for each in kept if each.split is not None}
    missing: list[Split] = [name for name in SPLITS[1:] if name not in official]
    pool = [index for index, each in enumerate(kept) if each.split in (None, "train")]
    split_of: list[Split] = [each.split or "train" for each in kept]
    groups = 0
    if not pool and any(each.split in (None, "train") for each in documents):
        raise RequestError(
            f"--corpus {corpus}: every document of its train split stands in {' or '.join(sorted(official))} too, "
            "where it is kept, so that none is left to train on; other documents in train would do"
        )
    if missing:
        labels = near_duplicate_clusters([kept[index].text for index in pool])
        clusters: dict[int, list[int]] = {}
        for index, label in zip(pool, labels.tolist(), strict=True):
            clusters.setdefault(label, []).append(index)
        groups = sum(len(cluster) > 1 for cluster in clusters.values())
        _require_clusters(corpus, len(documents), len(kept), len(clusters), 1 + len(missing))
        _tell_large_cluster(kept, list(clusters.values()), progress)
        kept = _with_common_sources(kept, list(clusters.values()))
        for index, name in _assign(kept, list(clusters.values()), missing, by, progress).items():
            split_of[index] = name
    by_split: dict[Split, list[Document]] = {name: [] for name in SPLITS}
    for each, name in zip(kept, split_of, strict=True):
        by_split[name].append(each)
    for name in SPLITS:
        if not by_split[name]:
            raise RequestError(
                f"--corpus {corpus}: the {name} split of its {len(documents)} documents is empty; "
                "a larger --max-bytes, or none, or another corpus would do"
            )
    return SplitDocuments(
        **by_split,
        duplicates_dropped=dropped,
        near_duplicate_clusters=groups,
        official=bool(official),
        made=(*missing,),
    )


def _with_common_sources(documents: Sequence[Document], clusters: list[list[int]]) -> list[Document]:
    """The documents, those of one cluster of near-duplicates or of sources that such a cluster joins of one source."""
    joined, first = Components(len(documents)), dict[str, int]()
    for index, each in enumerate(documents):
        if each.source is not None:
            joined.join([index], [first.setdefault(each.source, index)])
    for cluster in clusters:
        joined.join(cluster[1:], cluster[:1] * (len(cluster) - 1))
    roots = joined.labels().tolist()
    return [
        replace(each, source=f"{root}: {documents[root].name}") for each, root in zip(documents, roots, strict=True)
    ]


def _without_duplicates(documents: Sequence[Document]) -> tuple[list[Document], int]:
    """Drop exact duplicates: the first is kept, and official validation and test documents always are."""
    hashes = [content_hash(each.text) for each in documents]
    seen = {key for key, each in zip(hashes, documents, strict=True) if each.split in ("validation", "test")}
    kept: list[Document] = []
    for key, each in zip(hashes, documents, strict=True):
        if each.split in ("validation", "test"):
            kept.append(each)
        elif key not in seen:
            seen.add(key)
            kept.append(each)
    return kept, len(documents) - len(kept)


def _require_clusters(corpus: str, given: int, kept: int, clusters: int, needed: int) -> None:
    if clusters >= needed:
        return
    found = counted(given, "document")
    if clusters < given:
        found += (
            f", of which {kept} differ{'s' if kept == 1 else ''} and {clusters} {'is' if clusters == 1 else 'are'} no "
            "near-duplicate of others"
        )
    raise RequestError(
        f"--corpus {corpus}: {found}; train, validation and test need {needed} at least: a longer text, blank lines or "
        "lines <|endoftext|> in one .txt (cut there into passages of 4 kB), or a folder of more files would do"
    )


def _tell_large_cluster(documents: Sequence[Document], clusters: list[list[int]], progress: Tell) -> None:
    """Say it where one cluster holds so much of the bytes that the splits are what it leaves."""
    sizes = [sum(len(documents[index].text.encode()) for index in cluster) for cluster in clusters]
    largest = int(np.argmax(sizes))
    share = sizes[largest] / sum(sizes)
    if len(clusters[largest]) > 1 and share > LARGE_CLUSTER:
        progress(
            f"{len(clusters[largest])} documents, {share:.0%} of the bytes, are near-duplicates, each of some other, "
            "and stay on one side of the split"
        )


def _assign(
    documents: Sequence[Document], clusters: list[list[int]], missing: list[Split], by: SplitBy, progress: Tell
) -> dict[int, Split]:
    """{document's index: split} for the documents of `clusters` that do not go to train."""
    sizes = [sum(len(documents[index].text.encode()) for index in cluster) for cluster in clusters]
    if by == "position":
        # Clusters are in the order of their first documents. The last ones go to test, those before to validation.
        waiting = list(range(1, len(clusters)))
        missing = missing[::-1]
    else:
        keys = [min(content_hash(documents[index].text) for index in cluster) for cluster in clusters]
        largest = max(range(len(clusters)), key=lambda number: (sizes[number], keys[number]))
        waiting = sorted(set(range(len(clusters))) - {largest}, key=lambda number: keys[number], reverse=True)
    needed = SHARE * float(np.sum(sizes))
    split_of: dict[int, Split] = {}
    for name in missing:
        filled = 0
        still_empty = len(missing) - missing.index(name) - 1
        while filled < needed and len(waiting) > still_empty:
            number = waiting.pop()
            filled += sizes[number]
            split_of.update(dict.fromkeys(clusters[number], name))
        if filled < needed:
            progress(f"{name} holds less than a tenth of the bytes: the documents are few and unequal")
    return split_of
