"""Small models with redrawn weights, their tokenizer, and folders of them in Hugging Face's layout."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from assay.audit.redraw import redrawn
from assay.data.text.tokenizer import Tokenizer, build_tokenizer
from assay.hub.export import export_model
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig, build_model
from assay.model.lm import LanguageModel

BYTES = 258


class Made(NamedTuple):
    """A model and what it was made of."""

    architecture: Architecture
    config: ModelConfig
    model: LanguageModel
    tokenizer: Tokenizer

    def export(self, folder: Path) -> str:
        """Export the model as `assay export` exports a run."""
        return export_model(self.architecture, self.config, self.model, self.tokenizer, True, folder)


def make(name: str, seed: int = 0, **dimensions: object) -> Made:
    """A tiny model that reads bytes."""
    architecture = ARCHITECTURES.get(name)
    config = architecture.config.parse({**architecture.tiny, "vocab_size": BYTES, **dimensions})
    model = redrawn(build_model(architecture, config, seed), torch.Generator().manual_seed(1)).eval()
    return Made(architecture, config, model, build_tokenizer("bytes", []))


def ids(tokens: int, rows: int = 2) -> Tensor:
    return torch.randint(0, BYTES, (rows, tokens), generator=torch.Generator().manual_seed(tokens))
