"""The configuration by which transformers knows a model of ours: the name of its architecture and its dimensions."""

from typing import Any

from transformers import PreTrainedConfig

from assay.hub.import_ import OWN_TYPE


class AssayConfig(PreTrainedConfig):
    """model_type "assay". `dimensions` are the fields of the architecture's own configuration."""

    model_type = OWN_TYPE
    architecture: str = ""
    dimensions: dict[str, Any] | None = None
    tie_word_embeddings: bool = False
    """A tied head is one tensor inside the model, so that transformers has nothing to tie."""
    use_cache: bool = False

    @property
    def vocab_size(self) -> int:
        """Of the dimensions, for code that asks every configuration for it."""
        return int((self.dimensions or {}).get("vocab_size", 0))
