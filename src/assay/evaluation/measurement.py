"""The contract of a measurement: one question asked of a trained model, or of all arms of a study at once.

A measurement is one file: a class with what it asks as attributes, its record, how it is measured, and how its values
are shown, as data. `register(...)` in that file is all that tables, pages, `assay measure` and the documents need.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

from assay.data.scoring import ScoringWindows
from assay.data.task import TaskDataset
from assay.data.text.elsewhere import TextWindows
from assay.data.text.tokenizer import Tokenizer
from assay.errors import RequestError
from assay.evaluation.config import EvaluationConfig
from assay.evaluation.scoring import ScoredBatch
from assay.model.architecture import Architecture, ModelConfig
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.plugins.blame import place_of
from assay.records import Column, MeasuredFigure, Record, Split
from assay.records.measurement import GROUPS, Group, Scope
from assay.registry import Registry, suggestion
from assay.training.config import TrainingConfig
from assay.training.loop import ModelObserver

Need = Literal["initial", "trained", "course", "task", "capacity", "words", "mixture"]
"""The untrained weights of a seed; the trained ones; the model again and again while it is trained; data of a task; of
one with an axis that says how many things are to be remembered; of one in words; of one that is mixed with a text."""
NEEDS: tuple[Need, ...] = get_args(Need)
Text = Literal["held_out", "validation", "training", "mixed"]
"""What arms are scored on; the validation windows that training looks at; of a task, what the run was trained on; of a
mixture, held-out windows of its text."""
Moment = Literal["initial", "trained"]
"""When in training weights are looked at: before it, and after it."""
MOMENTS: tuple[Moment, ...] = get_args(Moment)
Values = TypeVar("Values", bound=Record)
Value = TypeVar("Value")


class Reader(ABC):
    """Reads one pass over some text by one model. All readers of the same pass are served by the same forwards."""

    model: Need = "trained"
    text: Text = "held_out"

    @abstractmethod
    def read(self, batch: ScoredBatch) -> None:
        """The next batch; windows of like length come together, the longest first."""


def _silent(_: str) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class Given:
    """One model, and the text and the plan that it is measured with."""

    label: str
    seed: int
    architecture: Architecture
    config: ModelConfig
    plan: ExecutionPlan
    evaluation: EvaluationConfig
    models: Mapping[Need, Callable[[], LanguageModel]]
    """What makes the untrained and the trained model, on the plan's device; without those that there are not."""
    texts: Mapping[Text, Callable[[], ScoringWindows]]
    tokenizer: Tokenizer | None = None
    """None where sequences are generated and no text."""
    invertible: bool = False
    """Whether the tokenizer gives every text back, so that bytes can be counted."""
    task: TaskDataset | None = None
    """None where the data are a text."""
    protocol: TrainingConfig | None = None
    """How the model is or was trained; None where that is not known."""
    steps: Sequence[Mapping[str, Any]] = ()
    """A row for each training step, as metrics.jsonl has it; none of a model that was not trained here."""
    courses: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Name of a measurement -> what its observer returned each time, first to last, with the `step`."""
    recut: Callable[[int, int], ScoringWindows] | None = None
    """(context, most tokens) -> windows of the held-out text cut at another context; None where the data are a task."""
    elsewhere: Mapping[str, Callable[[], TextWindows]] = field(default_factory=dict)
    """Corpus -> windows of it, cut by the model's tokenizer; none where the data are a task of ids."""
    quick: bool = False
    """Whether the smaller protocol is asked for, of measurements that have one."""
    tell: Callable[[str], None] = _silent
    """What is shown while something takes long."""

    @cached_property
    def initial(self) -> LanguageModel:
        """The model before training, rebuilt from seed and replicate."""
        return self.models["initial"]()

    @cached_property
    def trained(self) -> LanguageModel:
        """The model after training."""
        return self.models["trained"]()

    @cached_property
    def held_out(self) -> ScoringWindows:
        """The windows of the split that arms are scored on."""
        return self.texts["held_out"]()

    @cached_property
    def validation(self) -> ScoringWindows:
        """The validation windows that training looks at."""
        return self.texts["validation"]()

    @cached_property
    def training(self) -> ScoringWindows:
        """The first sequences of a task that the run was trained on, about as many as are looked at in validation."""
        return self.texts["training"]()

    @cached_property
    def mixed(self) -> ScoringWindows:
        """Windows of the text that a task is mixed with, of the split that arms are scored on."""
        return self.texts["mixed"]()

    @property
    def split(self) -> Split:
        """Which split the held-out windows are of."""
        return self.evaluation.split

    @property
    def moments(self) -> list[Moment]:
        """Which of the untrained and the trained weights there are, in this order."""
        return [moment for moment in MOMENTS if moment in self.models]

    @cached_property
    def _had(self) -> dict[str, Any]:
        """What `once` has made."""
        return {}

    def once(self, name: str, make: Callable[[], Value]) -> Value:
        """What `make` returns, made by the first of the measurements that ask for it under this name."""
        if name not in self._had:
            self._had[name] = make()
        value: Value = self._had[name]
        return value

    def model(self, need: Need) -> LanguageModel:
        """The untrained or the trained model."""
        return self.initial if need == "initial" else self.trained

    def text(self, text: Text) -> ScoringWindows:
        """The windows that a reader reads."""
        windows: ScoringWindows = getattr(self, text)
        return windows


@dataclass(frozen=True)
class GivenArm:
    """One arm of a study, for a measurement that builds models of its own."""

    label: str
    architecture: Architecture
    config: ModelConfig
    training: TrainingConfig


@dataclass(frozen=True)
class GivenStudy:
    """All arms of a study, for what must be measured of all at once."""

    arms: Sequence[GivenArm]
    plan: ExecutionPlan
    seed: int
    tell: Callable[[str], None]


class _Asked(ABC, Generic[Values]):
    """What every measurement says of itself."""

    name: ClassVar[str]
    question: ClassVar[str]
    unit: ClassVar[str]
    group: ClassVar[Group]
    scope: ClassVar[Scope]
    version: ClassVar[int] = 1
    """Raised when the values become other numbers, or mean something else: older results are then measured again."""
    record: ClassVar[type[Record]]
    """The class of the values."""
    timed: ClassVar[bool] = False
    """Whether its values are of a clock, so that measuring again gives others and no two are compared for equality."""
    by_group: ClassVar[bool] = True
    """Whether the name of its group asks for it too; else its own name alone does."""
    quick: ClassVar[str] = ""
    """In words what the smaller protocol of `--quick` looks at; empty where there is none."""

    @abstractmethod
    def columns(self, values: Values) -> list[Column]:
        """What a table shows of them."""

    def figures(self, values: Values) -> list[MeasuredFigure]:
        """What is drawn of them."""
        return []

    def sentences(self, values: Values) -> list[str]:
        """What must be said of them in words."""
        return []


class Measurement(_Asked[Values]):
    """A question asked of one run, or of one model."""

    scope = "run"
    needs: ClassVar[frozenset[Need]]
    needs_all: ClassVar[bool] = True
    """Whether all of `needs` must be there; else one of them does."""

    def readers(self, given: Given) -> Sequence[Reader]:
        """What reads forward passes over windows for it; they are filled before `measure` is called."""
        return ()

    def observer(self, steps: int) -> ModelObserver:
        """What sees the model while it is trained for `steps` steps; asked for where `needs` has the course.

        It has the name of the measurement, so that what it returns is found again in `Given.courses`.
        """
        raise NotImplementedError

    @abstractmethod
    def measure(self, given: Given, readers: Sequence[Any]) -> Values:
        """Its values; `readers` are those that it asked for, filled."""

    def unmet(self, available: frozenset[Need]) -> str | None:
        """In words what is missing for it, None where nothing is."""
        missing = [need for need in NEEDED if need in self.needs - available]
        if not missing or (not self.needs_all and self.needs & available):
            return None
        return "needs " + " and ".join(NEEDED[need] for need in missing)


NEEDED: Mapping[str, str] = {
    "initial": "untrained weights, which a seed gives",
    "trained": "trained weights",
    "course": "the course of training, which only the training itself shows",
    "task": "a task, whose sequences ask for answers (--task)",
    "capacity": "a task (--task) with an axis that says how many things are to be remembered",
    "words": "a task in words, whose answers are texts (--task needle)",
    "mixture": "a task that is mixed with a text (--set data.mix=0.5)",
}


class StudyMeasurement(_Asked[Values]):
    """A question asked of all arms of a study at once; its columns say of which arm each is."""

    scope = "study"
    rests_on: ClassVar[Literal["arms", "runs"]] = "runs"
    """Whether more seeds of the same arms make it another result."""

    @abstractmethod
    def measure(self, given: GivenStudy) -> Values:
        """Its values."""


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""It names files."""
AnyMeasurement = Measurement[Any] | StudyMeasurement[Any]
MEASUREMENTS: Registry[AnyMeasurement] = Registry("measurement", "assay.evaluation.measurements")


def register(measurement: AnyMeasurement) -> AnyMeasurement:
    """Add it to the registry under its name; one that does not say what it must is a RequestError that names it."""
    refuse_incomplete(measurement)
    return MEASUREMENTS.register(measurement.name, measurement)


def refuse_incomplete(measurement: AnyMeasurement) -> None:
    """Raise a RequestError where the first attribute that is missing or wrong is named, and what would do."""
    kind = type(measurement)
    called = getattr(measurement, "name", None)
    called = called if isinstance(called, str) and called else kind.__name__

    def refuse(what: str, would_do: str) -> None:
        value = repr(getattr(measurement, what)) if hasattr(measurement, what) else "missing"
        raise RequestError(f"{place_of(kind)}: the measurement {called}: {what}: {value}; {would_do} would do")

    for what in ("name", "question", "unit"):
        value = getattr(measurement, what, None)
        if not isinstance(value, str) or not value.strip():
            refuse(what, "a text")
    if not NAME.fullmatch(measurement.name):
        refuse("name", "letters, digits, - and _")
    if getattr(measurement, "group", None) not in GROUPS:
        refuse("group", f"one of {', '.join(GROUPS)}")
    record = getattr(measurement, "record", None)
    if not (isinstance(record, type) and issubclass(record, Record)):
        refuse("record", "a class of assay.records.Record")
    if type(measurement.version) is not int or measurement.version < 1:
        refuse("version", "a whole number from 1")
    if isinstance(measurement, Measurement):
        needs = getattr(measurement, "needs", None)
        if not isinstance(needs, frozenset) or not needs or not needs <= NEEDED.keys():
            refuse("needs", f"a frozenset of {', '.join(NEEDED)}")
        if "course" in measurement.needs and type(measurement).observer is Measurement.observer:
            raise RequestError(
                f"{place_of(kind)}: the measurement {called} needs the course and has no observer; the method "
                "`observer(self, steps)`, which returns what sees the model, would do"
            )


def expanded(
    names: Sequence[str], option: str = "--measure", of_task: bool = True, groups_first: bool = False
) -> list[str]:
    """Names of measurements, those of groups in their place, each once; an unknown one is a RequestError.

    `option`: where the names were given, for the message. `of_task`: whether the data may be a task; of groups, what
    needs one is left out where they are none. `groups_first`: whether a name that a measurement and a group share, as
    speed, means the group.
    """
    known = MEASUREMENTS.names()
    groups = {item.group for item in MEASUREMENTS}  # of those that older results may have, some have no member today
    found: list[str] = []
    for name in names:
        if name in known and not (groups_first and name in groups):
            found.append(name)
        elif name in GROUPS:
            found += [
                item.name
                for item in MEASUREMENTS
                if item.group == name and item.by_group and (of_task or not _needs_task(item))
            ]
        else:
            near = suggestion(name, sorted({*known, *GROUPS}))
            raise RequestError(f"{option} {name}: no measurement and no group of them; {near}")
    return list(dict.fromkeys(found))


def _needs_task(item: AnyMeasurement) -> bool:
    return isinstance(item, Measurement) and not item.needs.isdisjoint({"task", "capacity", "words", "mixture"})


def named(names: Sequence[str]) -> list[AnyMeasurement]:
    """The measurements of these names."""
    return [MEASUREMENTS.get(name) for name in names]
