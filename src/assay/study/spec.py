"""Everything that decides one run's numbers, resolved and frozen; its digest is the run's address."""

import re
from collections.abc import Mapping
from typing import Any

from assay.config import Config, digest_of
from assay.data.config import DataConfig
from assay.evaluation.config import EvaluationConfig
from assay.model.architecture import ModelConfig
from assay.study.asked import SCHEMA
from assay.training.config import TrainingConfig

SHORT_DIGEST = 8
"""Digits of a digest in the name of a run's folder."""


class Spec(Config):
    """One run. Label, execution plan, assay's version and the machine stand beside it in the run's record."""

    architecture: str
    model: dict[str, Any]
    """Every dimension, as solved."""
    data: DataConfig
    corpus_digest: str
    """SHA-256 of the tokenised corpus."""
    training: TrainingConfig
    evaluation: EvaluationConfig
    seed: int
    replicate: int = 0
    plugins: dict[str, str] = {}
    """Name of each plug-in that the run needs -> SHA-256 of its source and of what it imports from its own folder."""

    def digest_against(self, defaults: type[ModelConfig]) -> str:
        """SHA-256 of what differs from the defaults of this schema version; `defaults` are those of the dimensions.

        Of the data the digest of the tokenised corpus says all that decides numbers; where the text lay decides none.
        """
        departures = {name: value for name, value in self.departures().items() if name != "data"}
        return digest_of({"schema": SCHEMA, **departures, "model": _departures(self.model, defaults)})


def _departures(dimensions: Mapping[str, Any], defaults: type[ModelConfig]) -> dict[str, Any]:
    """The dimensions that differ from the architecture's published ones, as JSON has them."""
    published = defaults.model_fields
    return {
        name: value
        for name, value in dimensions.items()
        if name not in published or value != published[name].get_default(call_default_factory=True)
    }


def folder_name(label: str, seed: int, digest: str) -> str:
    """What a run's folder is called: what is plain in its label, its seed, a short digest. Nothing reads it back."""
    slug = re.sub(r"[^A-Za-z0-9.+-]+", "-", label).strip("-.")[:48] or "arm"
    return f"{slug}-seed{seed}-{digest[:SHORT_DIGEST]}"
