"""A study as the user asks for it: arms, grids, seeds, data, training, rule. Its config.yaml is the resolved copy."""

import itertools
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from assay.analysis.rule import Rule, Tuning
from assay.analysis.wording import short
from assay.config import Config, digest_of, read_yaml
from assay.data.config import DataConfig
from assay.data.task import in_words
from assay.errors import RequestError
from assay.evaluation.config import EvaluationConfig
from assay.model.architecture import ARCHITECTURES
from assay.model.plan import ExecutionConfig, ExecutionPlan
from assay.records import DEFAULT_MATCH, Addition, Match
from assay.registry import suggestion
from assay.study.arm import ArmConfig, parse_arm, renamed
from assay.study.older import of_today, says_size
from assay.training.config import TrainingConfig

DEFAULT_ARMS = ("transformer++", "rwkv7", "gated-delta-net")
FIRST_TRAINING = {"tokens": 1_638_400, "batch_tokens": 2_048, "optimizer": "muon", "learning_rate": 8e-3}
"""What a study of a text that names no arms takes, where nothing else is asked for: by it the arms above learn most in
the five minutes that a first study may take (docs/decisions.md)."""
DEFAULT_SIZE = 250_000
DEFAULT_SEEDS = (0, 1, 2, 3, 4)
"""Five: of three arms with three seeds only differences of some four standard deviations are resolved
(docs/statistics.md)."""
SCHEMA = 4
"""Of digests: a changed default of any section is a new version, a new key with a default is not."""
DEFAULT_MEASUREMENTS = ("likelihood", "recall", "signals", "output_health", "speed")
"""What is measured where nothing else is asked for."""


def usual_measurements(task: str | None, mixed: bool = False) -> list[str]:
    """What is measured where nothing else is asked for, of a text, or of a `task` alone or mixed with a text."""
    if task is None:
        return list(DEFAULT_MEASUREMENTS)
    choices = ["choices"] if in_words(task) else []
    return [*DEFAULT_MEASUREMENTS, "answers", *choices, *(["mixed_text"] if mixed else [])]


WRITTEN = ("version", "kind", "plan", "corpus_digest", "needs", "added")
"""The keys of a study's config.yaml that assay writes and users do not."""
NOT_IDENTITY = (*WRITTEN, "seeds", "measurements", "plugins")


class PluginFile(Config):
    """A file given with --plugin, and the SHA-256 of its source and of what it imports from its own folder."""

    path: str
    sha256: str = ""
    """Empty: whatever it holds."""
    measures_only: bool = False
    """Whether it brings measurements alone, so that no number of a run depends on it. assay writes it."""


class GridPoint(NamedTuple):
    """One arm at one point of the study's grids (sizes and learning rates)."""

    arm: ArmConfig
    group: str
    """The label of the arm that was asked for."""
    size: int | None


class StudyConfig(Config):
    """Everything that decides a study's numbers; the resolved copy lies beside its results."""

    version: Literal[6] = 6
    """Of this file; digests have SCHEMA."""
    kind: Literal["study", "run"] = "study"
    """What the folder of this config.yaml holds."""
    arms: list[ArmConfig] = Field(min_length=1)
    size: int | None = Field(None, gt=0, le=100_000_000_000)
    """The size of every arm in units of `match`: a quarter of a million unless `model` sets a width or depth.

    None keeps the published dimensions.
    """
    sizes: list[int] = []
    """Several sizes: every arm without a size of its own is run at each, and arms are compared within each size."""
    match: Match = DEFAULT_MATCH
    model: dict[str, Any] = {}
    """Dimensions set for every arm, such as body or initialisation, and under an arm's label for that arm alone."""
    seeds: list[int] = Field(list(DEFAULT_SEEDS), min_length=1)
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    measurements: list[str] = list(DEFAULT_MEASUREMENTS)
    """What is measured: names, or groups of them. The likelihood is there always, as arms are ranked on it."""
    rule: Rule = Rule()
    tuning: Tuning = Tuning()
    execution: ExecutionConfig = ExecutionConfig()
    plugins: list[PluginFile] = []
    """Files that bring architectures or corpora, as --plugin gives them."""
    plan: ExecutionPlan | None = None
    """The execution plan that `execution` was resolved to.

    assay writes it; a resumed run, a study that grows, and a repetition by --config use it.
    """
    corpus_digest: str | None = None
    """SHA-256 of the tokenised corpus. assay writes it, and then refuses other text under the same name."""
    needs: dict[str, str] | None = None
    """In a run: {plug-in or package it needs: digest}, as in its spec. assay writes it and refuses edited code."""
    added: list[Addition] = []
    """What was added to the study after it had begun. assay writes it."""

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, values: Any) -> Any:
        """Fill in the default size; read what older versions called things, and what they took for granted."""
        if not isinstance(values, dict):
            return values
        values = _with_answers(_with_seeds_of_looks(_with_own_dimensions(_with_heads(_with_arms(of_today(values))))))
        return values if says_size(values) else {**values, "size": DEFAULT_SIZE}

    @field_validator("plugins", mode="before")
    @classmethod
    def _plugins_as_written(cls, plugins: Any) -> Any:
        if not isinstance(plugins, list):
            return plugins
        return [{"path": plugin} if isinstance(plugin, str) else plugin for plugin in plugins]

    @field_validator("seeds", "sizes", "measurements")
    @classmethod
    def _no_repeats(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) != len(values):
            raise ValueError("must not repeat itself")
        return values

    @field_validator("seeds")
    @classmethod
    def _seeds_not_negative(cls, values: list[int]) -> list[int]:
        if min(values) < 0:
            raise ValueError("must be zero or more")
        return values

    @field_validator("sizes")
    @classmethod
    def _sizes_above_zero(cls, values: list[int]) -> list[int]:
        if any(value <= 0 for value in values):
            raise ValueError("must be above zero")
        return values

    @model_validator(mode="after")
    def _one_of_size_and_sizes(self) -> "StudyConfig":
        if self.size is not None and self.sizes:
            raise ValueError(f"--size {self.size} and --sizes {', '.join(map(str, self.sizes))}: give only one")
        labels = [point.arm.label for point in self.points()]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(
                    f"arms: {label} stands twice; a name of its own, as in again={label}:replicate=1, would do"
                )
        return self

    @model_validator(mode="after")
    def _rule_fits(self) -> "StudyConfig":
        if self.kind == "run":
            return self
        groups = [arm.label for arm in self.arms]
        if self.rule.baseline is not None and self.rule.baseline not in groups:
            raise ValueError(f"--baseline {self.rule.baseline}: no arm of this study; {', '.join(groups)} would do")
        if self.rule.looks and self.rule.looks[-1] != len(self.seeds):
            # A further look after the last that was planned would be one that the intervals do not allow for.
            looks = ",".join(map(str, self.rule.looks))
            raise ValueError(
                f"--looks {looks}: there are {len(self.seeds)} seeds; leave --seeds out, or end the looks with as many"
            )
        if self.rule.looks and self.tuning.learning_rates:
            raise ValueError("--looks: with a grid of learning rates another rate may be chosen at each look; give one")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """The configuration in a file; what is wrong in it is a RequestError that names the file."""
        values = read_yaml(path)
        try:
            return cls.parse(values, {"": str(path)})
        except RequestError as error:
            text = str(error)
            raise RequestError(text if text.startswith(str(path)) else f"{path}: {text}") from None

    def looks(self) -> list[int]:
        """After how many seeds results are looked at; the last number is that of all seeds."""
        return list(dict.fromkeys([*self.rule.looks, len(self.seeds)]))

    def points(self) -> list[GridPoint]:
        """Every arm at every point of the grids; a grid does not vary what an arm fixes itself."""
        points = []
        for arm in self.arms:
            sizes: list[int | None] = [None] if arm.size is not None or not self.sizes else list(self.sizes)
            rates: list[float | None] = list(self.tuning.learning_rates)
            if "learning_rate" in arm.training or not rates:
                rates = [None]
            for size, rate in itertools.product(sizes, rates):
                points.append(GridPoint(_at(arm, size, rate), arm.label, arm.size or size or self.size))
        return points

    def identity(self) -> str:
        """A hash of protocol and arms, without what may be added (seeds, measurements) or depends on the machine."""
        asked = {name: value for name, value in self.departures().items() if name not in NOT_IDENTITY}
        asked["arms"] = sorted((arm.departures() for arm in self.arms), key=lambda arm: str(arm["label"]))
        plugins = sorted(plugin.sha256 for plugin in self.plugins if not plugin.measures_only)
        return digest_of({"schema": SCHEMA, **asked, **({"plugins": plugins} if plugins else {})})

    def run_identity(self) -> str:
        """The same for a single run, whose hash includes the seed."""
        return digest_of([self.identity(), self.seeds])


def _with_heads(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with `tied_embeddings`, for all arms or under a label, as the key `heads` that replaced it."""
    model = values.get("model")
    if not isinstance(model, dict):
        return values
    under = {key: renamed(value) if isinstance(value, dict) else value for key, value in model.items()}
    return {**values, "model": renamed(under)}


def _at(arm: ArmConfig, size: int | None, rate: float | None) -> ArmConfig:
    """The arm at one point of the grids; the point becomes part of its label."""
    label = arm.label
    if size is not None:
        label += f"@{short(size)}"
    if rate is not None:
        label += f"@lr={rate:g}"
    training = arm.training if rate is None else {**arm.training, "learning_rate": rate}
    return arm.model_copy(update={"label": label, "size": arm.size or size, "training": training})


def _read_arm(arm: Any, number: int) -> ArmConfig:
    """An arm given as text or as a mapping from a file; a mistake in it is a RequestError that names it."""
    if isinstance(arm, ArmConfig):
        return arm
    try:
        if isinstance(arm, str):
            return parse_arm(arm)
        if isinstance(arm, dict):
            return ArmConfig.parse(arm)
    except RequestError as error:
        text = str(error)
        inside = text.startswith(f"{ArmConfig.section}.")
        raise RequestError(f"arms.{number}{'.' if inside else ': '}{text.removeprefix('arms.')}") from None
    raise RequestError(f"arms: {arm!r} is no arm; ARCH, ARCH:key=value,... or NAME=ARCH:key=value,... would do")


def _with_seeds_of_looks(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with as many seeds as the last planned look takes, where none are given."""
    rule = values.get("rule")
    looks = rule.looks if isinstance(rule, Rule) else rule.get("looks") if isinstance(rule, dict) else None
    if "seeds" in values or not isinstance(looks, list) or not looks or type(looks[-1]) is not int or looks[-1] < 1:
        return values
    return {**values, "seeds": list(range(looks[-1]))}


def _with_answers(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with what is measured of a task, where the data are one and nothing is said of it."""
    data = values.get("data")
    data = data.departures() if isinstance(data, DataConfig) else data
    task = data.get("task") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(task, str) or "measurements" in values:
        return values
    mixed = data.get("mix", 1) != 1  # what else is wrong with it is said when all is parsed
    return {**values, "measurements": usual_measurements(task, mixed)}


def _with_arms(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the arms and the protocol of a first study, where it names no arms; of a task the arms alone."""
    training, data = values.get("training") or {}, values.get("data") or {}
    if "arms" in values or not isinstance(training, dict) or not isinstance(data, dict):
        return values
    first = {} if data.get("task") is not None else FIRST_TRAINING
    return {**values, "arms": list(DEFAULT_ARMS), "training": {**first, **training}}


def _with_own_dimensions(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with its arms read, each with the dimensions that `model` has under its label.

    A dimension that the arm sets itself takes precedence.
    """
    arms, model = values.get("arms", list(DEFAULT_ARMS)), values.get("model", {})
    if not isinstance(arms, list) or not isinstance(model, dict):
        return {"arms": list(DEFAULT_ARMS), **values}  # validation of the fields reports the wrong type
    read = [_read_arm(arm, number) for number, arm in enumerate(arms)]
    labels = [arm.label for arm in read]
    known = {arm.architecture for arm in read} & set(ARCHITECTURES.names())  # that of a plug-in may not be loaded
    fields = {name for architecture in known for name in ARCHITECTURES.get(architecture).config.model_fields}
    own = {
        name: dimensions for name, dimensions in model.items() if isinstance(dimensions, dict) and name not in fields
    }
    for name in own:
        if name not in labels:
            raise RequestError(f"model.{name}: no arm of this study; {suggestion(name, labels)}")
    read = [arm.model_copy(update={"model": {**own.get(arm.label, {}), **arm.model}}) for arm in read]
    return {**values, "arms": read, "model": {name: value for name, value in model.items() if name not in own}}
