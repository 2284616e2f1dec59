"""The spec of a run: everything that decides its numbers, resolved. Its digest identifies the run."""

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
"""The number of digits of the digest in the name of a run's folder."""


class Spec(Config):
    """One run. Its label, execution plan, assay's version and the machine are not part of it; the record has them."""

    architecture: str
    model: dict[str, Any]
    """Every dimension of the model, as resolved."""
    data: DataConfig
    corpus_digest: str
    """SHA-256 of the tokenised corpus."""
    training: TrainingConfig
    evaluation: EvaluationConfig
    seed: int
    replicate: int = 0
    plugins: dict[str, str] = {}
    """{plug-in that the run needs: SHA-256 of its source and of what it imports from its own folder}."""

    def digest_against(self, defaults: type[ModelConfig]) -> str:
        """SHA-256 of what differs from the defaults of this schema version; `defaults` are those of the dimensions.

        The data enter as the digest of the tokenised corpus alone: the place where the text lay decides no number. Nor
        do the texts that a model is scored on beside it, of which a result has digests.
        """
        departures = {name: value for name, value in self.departures().items() if name not in ("data", "evaluation")}
        evaluation = self.evaluation.model_copy(update={"texts": EvaluationConfig().texts})
        departures |= {"evaluation": evaluation.departures()} if evaluation.departures() else {}
        return digest_of({"schema": SCHEMA, **departures, "model": _departures(self.model, defaults)})


def _departures(dimensions: Mapping[str, Any], defaults: type[ModelConfig]) -> dict[str, Any]:
    """The dimensions that differ from the architecture's published ones, as JSON values."""
    published = defaults.model_fields
    return {
        name: value
        for name, value in dimensions.items()
        if name not in published or value != published[name].get_default(call_default_factory=True)
    }


def folder_name(label: str, seed: int, digest: str) -> str:
    """The name of a run's folder: the plain characters of its label, its seed, and the first digits of its digest.

    Nothing is ever read back from the name.
    """
    return f"{slug(label)}-seed{seed}-{digest[:SHORT_DIGEST]}"


def slug(label: str) -> str:
    """The plain characters of a label, for the name of a folder."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", label).strip("-.")[:48] or "arm"
