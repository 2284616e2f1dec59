"""Windows of a text that a model was not trained on, cut by the model's own tokenizer."""

import hashlib
from typing import NamedTuple

from assay.data.batches import permutation
from assay.data.config import DataConfig
from assay.data.corpus import Document, find_corpus, silent
from assay.data.scoring import ScoringWindows, scoring_windows
from assay.data.text.tokenized import tokenize
from assay.data.text.tokenizer import Tokenizer
from assay.errors import RequestError
from assay.seeding import derive

BYTES_A_TOKEN = 16
"""Documents are taken until they have so many bytes for each token that is asked for: windows are drawn from more text
than is scored."""


class TextWindows(NamedTuple):
    """What a model is scored on."""

    windows: ScoringWindows
    invertible: bool
    """Whether the tokenizer gives the text back, so that its bytes can be counted."""
    digest: str
    """SHA-256 of inputs and targets."""
    own: bool
    """Whether it is held out of what the model was trained on, and no other text."""


def text_windows(corpus: str, tokenizer: Tokenizer, context: int, tokens: int) -> TextWindows:
    """About `tokens` targets of `corpus`, written as for --corpus, in windows of `context`; the same each time.

    The text has no splits: all of it may be drawn, whole documents in an order of their own. What cannot be read is a
    RequestError.
    """
    documents = _drawn(list(_documents(corpus)), BYTES_A_TOKEN * tokens)
    split, lost = tokenize(documents, tokenizer)
    windows = scoring_windows(split, context, tokenizer.token_bytes, 0, tokens)
    return TextWindows(windows, not lost, windows_digest(windows), own=False)


def windows_digest(windows: ScoringWindows) -> str:
    """SHA-256 of inputs and targets."""
    return hashlib.sha256(windows.inputs.tobytes() + windows.targets.tobytes()).hexdigest()


def refuse_unknown(corpus: str) -> None:
    """Raise a RequestError where there is no corpus of that name, or no file where it points."""
    try:
        source, argument = find_corpus(DataConfig(corpus=corpus))
        if source.name == "text":  # others take a network or are there with Python and torch
            next(iter(source.documents(DataConfig(corpus=corpus), argument, silent)))
    except RequestError as error:
        raise RequestError(f"evaluation.texts: {error}") from None


def _documents(corpus: str) -> list[Document]:
    config = DataConfig(corpus=corpus)
    source, argument = find_corpus(config)
    found = [document for document in source.documents(config, argument, silent) if document.text.strip()]
    if not found:
        raise RequestError(f"--corpus {corpus}: has no text; another would do")
    return found


def _drawn(documents: list[Document], most_bytes: int) -> list[Document]:
    """Documents in random order until they have `most_bytes`, in the order of the corpus again."""
    left, chosen = most_bytes, []
    for index in permutation(len(documents), derive(0, "other text")).tolist():
        if left <= 0:
            break
        chosen.append(index)
        left -= len(documents[index].text.encode())
    return [documents[index] for index in sorted(chosen)]
