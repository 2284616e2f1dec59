"""The tokenizer of all runs: byte pairs of the corpus and of needles, so that every word of a needle is one token.

As in GPT-2's vocabulary, which the document used: an answer is one token, and the five likeliest can be asked for.
"""

from pathlib import Path

from assay.data.config import DataConfig
from assay.data.corpus import read_documents, silent
from assay.data.tasks.needle import COLOURS, DISTRACTOR, NAMES, OBJECTS
from assay.data.text.tokenizer import build_tokenizer

BYTES = 300_000
"""Of the corpus."""
TIMES = 400


def made(corpus: str, size: int, folder: Path) -> Path:
    """The file of the tokenizer, made where it is not there."""
    path = folder / f"tokenizer-{size}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        facts = [
            f"{name} has a {colour} {thing}.{DISTRACTOR} What does {name} have? {colour}"
            for name, colour, thing in zip(NAMES, COLOURS, OBJECTS, strict=True)
        ]
        texts = [document.text for document in read_documents(DataConfig(corpus=corpus, max_bytes=BYTES), silent)]
        build_tokenizer(f"bpe:{size}", [*texts, *(facts * TIMES)]).save(path)
    return path
