"""transformers' configuration of an assay model: the name of its architecture and its dimensions."""

from typing import Any

from transformers import PreTrainedConfig

from assay.hub.import_ import OWN_TYPE


class AssayConfig(PreTrainedConfig):
    """model_type "assay". `dimensions` are the fields of the architecture's own configuration."""

    model_type = OWN_TYPE
    architecture: str = ""
    dimensions: dict[str, Any] | None = None
    tie_word_embeddings: bool = False
    """False even for a tied head: that is one tensor inside the model, so transformers has nothing to tie."""
    use_cache: bool = False

    @property
    def vocab_size(self) -> int:
        """The vocabulary size, from the dimensions; code of transformers asks every configuration for it."""
        return int((self.dimensions or {}).get("vocab_size", 0))
