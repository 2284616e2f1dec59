"""What the generator of a task in words knows of its run: how long texts are in tokens, and stretches of the corpus."""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from assay.data.batches import Ints
from assay.data.corpus import Split
from assay.data.text.tokenized import TokenizedCorpus
from assay.data.text.tokenizer import Tokenizer
from assay.data.worded.examples import Piece
from assay.errors import RequestError

REMEMBERED = 100_000
"""Texts whose ids are kept; the same pieces come again and again."""


class Words:
    """The run's tokenizer and, where the task reads from it, its corpus."""

    def __init__(self, tokenizer: Tokenizer, corpus: TokenizedCorpus | None = None) -> None:
        self.tokenizer = tokenizer
        self.corpus = corpus
        self._ids: dict[str, Ints] = {}

    def ids(self, piece: Piece) -> Ints:
        """The ids of a text by itself, or those of a stretch as they are."""
        if not isinstance(piece, str):
            return piece
        if piece not in self._ids:
            if len(self._ids) >= REMEMBERED:
                self._ids.clear()
            self._ids[piece] = np.array(self.tokenizer.encode(piece), dtype=np.int64)
        return self._ids[piece]

    def tokens(self, *pieces: Piece) -> int:
        """The number of tokens of all `pieces` together."""
        return sum(len(self.ids(piece)) for piece in pieces)

    def most(self, texts: Iterable[str]) -> int:
        """The number of tokens of the longest of `texts`."""
        return max(self.tokens(text) for text in texts)

    def joined(self, pieces: Sequence[Piece]) -> Ints:
        """The ids of a whole sequence: BOS, then all pieces."""
        return np.concatenate([np.array([self.tokenizer.bos], dtype=np.int64), *map(self.ids, pieces)])

    def refuse_other_cuts(self, whose: str, pieces: Sequence[Piece], answer: str) -> None:
        """Raise a RequestError where the tokenizer cuts the whole text otherwise than its pieces.

        The ids of an answer would then depend on what stands before it. Text around stretches of ids is not compared.
        """
        texts: list[str] = []
        for piece in pieces:
            texts = [*texts, piece] if isinstance(piece, str) else []
        apart = [int(number) for text in [*texts, answer] for number in self.ids(text)]
        if apart != self.tokenizer.encode("".join([*texts, answer])):
            raise RequestError(
                f"--tokenizer {self.tokenizer.name}: cuts {answer.strip()!r} and the text before it otherwise together "
                f"than apart, and {whose} scores answers by their own tokens; bytes, bpe:N or gpt2 would do"
            )

    def stretch(self, split: Split, tokens: int, generator: np.random.Generator) -> Ints:
        """`tokens` ids of the corpus in a row, from a place drawn at random; without begins and ends of documents."""
        ids = self._streams[split]
        start = int(generator.integers(0, max(1, len(ids) - tokens)))
        return ids[start : start + tokens].astype(np.int64)

    def refuse_short_corpus(self, tokens: int) -> None:
        """Raise a RequestError where a split holds no stretch of so many tokens."""
        for split, ids in self._streams.items():
            if len(ids) <= tokens and self.corpus is not None:
                raise RequestError(
                    f"--context {tokens}: the {split} split of --corpus {self.corpus.name} has {len(ids)} tokens; a "
                    f"longer text or --context {max(2, len(ids) - 1)} would do"
                )

    def ends_sentence(self, ids: Ints) -> NDArray[np.bool_]:
        """[n] whether a sentence or a line ends with each of `ids`."""
        return self._ends[ids]

    @cached_property
    def _streams(self) -> dict[Split, NDArray[np.integer]]:
        if self.corpus is None:
            raise ValueError("a task that reads no corpus asks for a stretch of it")
        special = (self.tokenizer.bos, self.tokenizer.eos)
        names: tuple[Split, ...] = ("train", "validation", "test")
        return {name: (ids := self.corpus.split(name).ids)[~np.isin(ids, special)] for name in names}

    @cached_property
    def _ends(self) -> NDArray[np.bool_]:
        texts = self.tokenizer.decode_batch([[number] for number in range(self.tokenizer.vocab_size)])
        return np.array([text.endswith(("\n", ".", '."', "?", "!")) for text in texts])
