"""One arm of a study (an architecture with settings): how it is written on a command line, and its configuration.

ARM = ARCH | ARCH:key=value,... | NAME=ARCH:key=value,...
"""

from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from assay.config import Config, parse_settings
from assay.errors import RequestError
from assay.model.architecture import ARCHITECTURES, heads_of_old
from assay.registry import suggestion

OWN_TRAINING = (
    "learning_rate",
    "schedule",
    "warmup_share",
    "warmup_tokens",
    "decay_share",
    "final_share",
    "weight_decay",
    "decay_all",
    "layer_rates",
    "beta1",
    "beta2",
    "epsilon",
    "clip_norm",
)
"""The training settings that one arm may set for itself; all others are the same for the whole study."""
SHORT = {"lr": "learning_rate", "init": "initialisation"}
"""Short names on the command line: {short: key}."""
LONGEST_LABEL = 80
"""The most letters of a label as the user gives it; in a grid its point is added to the label."""


class ArmConfig(Config):
    """One arm: a label, an architecture with the dimensions it fixes, and training settings of its own."""

    section: ClassVar[str] = "arms"

    label: str = Field(min_length=1, max_length=2 * LONGEST_LABEL)
    architecture: str
    size: int | None = Field(None, gt=0, le=100_000_000_000)
    """A size of its own; None means the study's."""
    model: dict[str, Any] = {}
    """The dimensions that this arm fixes."""
    training: dict[str, Any] = {}
    """The training settings that differ from the study's, of those in OWN_TRAINING."""
    replicate: int = Field(0, ge=0, strict=True)
    """Another number gives other draws of initialisation and dropout with the same data.

    Two arms that differ only in this are a placebo: any difference between them is chance.
    """

    @model_validator(mode="before")
    @classmethod
    def _label_by_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and "label" not in values and "architecture" in values:
            return {**values, "label": values["architecture"]}
        return values

    @field_validator("model", mode="before")
    @classmethod
    def _heads_by_todays_name(cls, model: Any) -> Any:
        return renamed(model) if isinstance(model, dict) else model

    @field_validator("label")
    @classmethod
    def _label_is_shown(cls, label: str) -> str:
        if not label.isprintable() or label != label.strip():
            raise ValueError("must be printable text without spaces around it")
        return label

    @field_validator("training")
    @classmethod
    def _own_training_only(cls, training: dict[str, Any]) -> dict[str, Any]:
        for key in training:
            if key not in OWN_TRAINING:
                raise ValueError(f"{key} is no setting of one arm; there is {', '.join(OWN_TRAINING)}")
        return training


def renamed(model: dict[str, Any]) -> dict[str, Any]:
    """Dimensions with the older `tied_embeddings` as `heads`; where both are given, `heads` stands."""
    if "tied_embeddings" not in model:
        return model
    rest = {key: value for key, value in model.items() if key != "tied_embeddings"}
    return {"heads": heads_of_old(model["tied_embeddings"]), **rest}


def parse_arm(text: str) -> ArmConfig:
    """The arm written as `text`; a mistake in it is a RequestError that starts with the text."""
    head, colon, rest = text.partition(":")
    name, named, architecture = head.rpartition("=")
    if (named and not name.strip()) or not architecture.strip() or (colon and not rest.strip()):
        raise RequestError(f"{text}: no arm; ARCH, ARCH:key=value,... or NAME=ARCH:key=value,... would do")
    architecture = architecture.strip()
    if architecture not in ARCHITECTURES.names():
        raise RequestError(f"{_of(text, architecture)}unknown architecture {architecture!r}: {_near(architecture)}")
    values: dict[str, Any] = {"label": name.strip() or text.strip(), "architecture": architecture}
    if len(values["label"]) > LONGEST_LABEL:
        raise RequestError(
            f"{text}: is longer than {LONGEST_LABEL} letters; a name of its own, as in mine={text}, would do"
        )
    for key, value in parse_settings(text, rest):
        section, key = _place(text, architecture, key)
        into = values.setdefault(section, {}) if section else values
        if key in into:
            raise RequestError(f"{text}: {key} is given twice")
        into[key] = value
    try:
        return ArmConfig.parse(values)
    except RequestError as error:
        raise RequestError(f"{text}: {str(error).removeprefix('arms.')}") from None


def _of(text: str, architecture: str) -> str:
    """The start of a message that names the architecture: the text of the arm, where that says more."""
    return "" if text.strip() == architecture else f"{text}: "


def _near(architecture: str) -> str:
    return suggestion(architecture, ARCHITECTURES.names())


def _place(text: str, architecture: str, key: str) -> tuple[str, str]:
    """The section of ArmConfig that `key` belongs to ("" is the arm itself), and its whole name."""
    key = SHORT.get(key, key)
    dimensions = [name for name in ARCHITECTURES.get(architecture).config.model_fields if name != "vocab_size"]
    if key in dimensions:
        return "model", key
    if key in OWN_TRAINING:
        return "training", key
    if key in ("size", "replicate"):
        return "", key
    near = suggestion(key, [*dimensions, *OWN_TRAINING, *SHORT, "size", "replicate"])
    raise RequestError(f"{text}: {key}: no dimension of {architecture} and no training setting of an arm; {near}")
