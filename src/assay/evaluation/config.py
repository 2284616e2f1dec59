"""How much held-out text is read after training."""

from pydantic import Field, field_validator

from assay.config import Config
from assay.data.config import DataConfig
from assay.records import Split


class EvaluationConfig(Config):
    """How much held-out text is scored at the end; whole windows in a fixed random order up to the cap."""

    split: Split = "test"
    """What arms are compared on; `validation` keeps the test split closed."""
    test_tokens: int | None = Field(32_768, gt=0)
    """Tokens of that split that are scored; None is all of it."""
    signal_windows: int = Field(8, gt=0)
    """Validation windows on which signals and states are measured."""
    texts: list[str] = Field(["stdlib", "manual", "headers"], min_length=1)
    """Corpora, written as for --corpus, on which the measurement `texts` scores a model beside its own."""

    @field_validator("texts")
    @classmethod
    def _each_once(cls, texts: list[str]) -> list[str]:
        if len(set(texts)) != len(texts):
            raise ValueError("must not repeat itself")
        return [DataConfig(corpus=corpus).absolute().corpus for corpus in texts]
