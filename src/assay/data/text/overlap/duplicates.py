"""Exact duplicates and near-duplicates among documents, so that no text stands on both sides of a split.

Texts are compared by their normalised words (`words`), short ones by what remains when some words are left out
(`short_texts`), longer ones by the share of their words in runs that the other one has too (`coverage`).
"""

import hashlib
from collections.abc import Sequence

from assay.data.text.overlap.components import Components
from assay.data.text.overlap.coverage import SCALES, join_covered_texts
from assay.data.text.overlap.short_texts import join_contained_short_texts, join_equal_texts, join_near_short_texts
from assay.data.text.overlap.words import Ints, word_hashes

BOILERPLATE_SHARE = 0.02
"""What stands in more than this share of all texts is boilerplate, as a licence is."""
BOILERPLATE_TEXTS = 250
"""And in more texts than this."""


def content_hash(text: str) -> bytes:
    """SHA-256 of the text without the whitespace around it: equal for exact duplicates."""
    return hashlib.sha256(text.strip().encode()).digest()


def near_duplicate_clusters(texts: Sequence[str]) -> Ints:
    """Return a label for each text: the index of the first text of its cluster (its own where it stands alone).

    Clusters are the connected components of near-duplicate pairs; docs/corpora.md says which pairs those are.
    """
    words, starts = word_hashes(texts)
    found = Components(len(texts))
    most_holders = max(BOILERPLATE_TEXTS, int(BOILERPLATE_SHARE * len(texts)))
    join_equal_texts(words, starts, found)
    join_near_short_texts(words, starts, found)
    join_contained_short_texts(words, starts, found, most_holders)
    for scale in SCALES:
        join_covered_texts(words, starts, found, scale, most_holders)
    return found.labels()
