"""What a run reads: the corpus, the tokenizer, and how much of the text."""

from typing import Literal

from pydantic import Field

from assay.config import Config


class DataConfig(Config):
    """A corpus by name and the tokens it is cut into."""

    corpus: str = "stdlib"
    """A registered name, followed by `:ARGUMENT` where the corpus takes one (`text:PATH`)."""
    tokenizer: str = "bpe:4096"
    """`bytes`, `bpe:N`, `gpt2`, `gpt2:DIR` or the path of a tokenizer.json."""
    text_field: str = "text"
    """The field of a jsonl or parquet row that holds the text."""
    split_by: Literal["hash", "position"] = "hash"
    """How documents without an official split are parted: by hash, or by position, the end being held out."""
    max_bytes: int | None = Field(default=None, gt=0)
    """Whole documents are taken in order as long as their UTF-8 bytes stay within this."""
