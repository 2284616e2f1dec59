"""How much held-out text is read after training."""

from pydantic import Field

from assay.config import Config
from assay.records import Split


class EvaluationConfig(Config):
    """How much held-out text is scored at the end; whole windows in a fixed random order up to the cap."""

    split: Split = "test"
    """What arms are compared on; `validation` keeps the test split closed."""
    test_tokens: int | None = Field(32_768, gt=0)
    """Tokens of that split that are scored; None is all of it."""
    signal_windows: int = Field(8, gt=0)
    """Validation windows on which signals and states are measured."""
