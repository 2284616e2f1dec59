"""ARM as a SUBJECT: an untrained model of an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.model.architecture import ARCHITECTURES, ModelConfig, build_model
from assay.model.contract import check_shapes
from assay.model.sizing import Decoding
from assay.plugins.blame import is_brought
from assay.records import DEFAULT_MATCH
from assay.study.arm import ArmConfig
from assay.study.asked import StudyConfig
from assay.study.resolve import arm_dimensions, size_arm
from assay.study.subject.subject import NamedModel

SIZE = 300_000
VOCAB_SIZE = 128
"""The vocabulary of an untrained model: large enough for an audit, and the head stays cheap."""


@dataclass(frozen=True)
class Fresh:
    """How untrained models are built. `size` None means 300,000 parameters, unless `model` sets a dimension."""

    size: int | None = None
    model: Mapping[str, Any] | None = None
    seed: int = 0


def arm_config(
    arm: ArmConfig,
    size: int | None,
    match: str = DEFAULT_MATCH,
    decoding: Decoding | None = None,
    vocab_size: int | None = None,
) -> ModelConfig:
    """The dimensions of an arm outside a study, solved for `size` as in one; `vocab_size` is a default."""
    architecture = ARCHITECTURES.get(arm.architecture)
    study = StudyConfig.parse({"arms": [arm], "size": size, "match": match}, {"match": "--match"})
    fixed = arm_dimensions(architecture, study, study.arms[0])
    if vocab_size is not None:
        fixed = {"vocab_size": vocab_size, **fixed}
    return size_arm(architecture, study, fixed, decoding or Decoding(), size, arm.label)


def fresh_model(arm: ArmConfig, fresh: Fresh) -> NamedModel:
    """An untrained model of the arm, small unless asked otherwise; `fresh.model` overrides the arm's dimensions."""
    architecture = ARCHITECTURES.get(arm.architecture)
    if is_brought(architecture.mixer, architecture.channel_mixer, architecture.config):
        check_shapes(architecture)
    arm = arm.model_copy(update={"model": {**arm.model, **(fresh.model or {})}})
    size = fresh.size or arm.size
    size = size if size is not None or {"d_model", "n_layers"} & set(arm.model) else SIZE
    config = arm_config(arm, size, vocab_size=VOCAB_SIZE)
    model = build_model(architecture, config, fresh.seed, arm.replicate)
    return NamedModel(arm.label, model, architecture, fresh=True)
