"""Growth of a study that has begun: what a new request for its folder may add, and what it may not change."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from assay.config import flat
from assay.errors import RequestError
from assay.evaluation.measurement import NEEDED, Measurement, named
from assay.records import Addition, StudyRecord
from assay.study.asked import WRITTEN, StudyConfig
from assay.study.folder import refuse_other_plugins, refuse_value, shown

Item = TypeVar("Item")

GROWS = ("arms", "seeds", "sizes", "measurements", "tuning.learning_rates")
"""The keys to which values may be added. All others decide the numbers of runs that exist already."""


def grown(stored: StudyConfig, asked: StudyConfig, folder: Path, tell: Callable[[str], None]) -> StudyConfig:
    """The study in `folder` with what is asked added; a changed protocol is a RequestError that names key and values.

    Where less is asked for than the folder holds, all of it stays, and `tell` is given a line that says so.
    """
    asked = _point_as_grid(stored, asked)
    _refuse_other_protocol(stored, asked, folder)
    refuse_other_plugins(stored, asked, folder)
    arms = _united_arms(stored, asked, folder)
    seeds = _united(stored.seeds, asked.seeds)
    sizes = _united(stored.sizes, asked.sizes)
    rates = _united(stored.tuning.learning_rates, asked.tuning.learning_rates)
    plugins = {Path(plugin.path).name: plugin for plugin in [*stored.plugins, *asked.plugins]}
    study = stored.model_copy(
        update={
            "arms": arms,
            "seeds": seeds,
            "sizes": sizes,
            "tuning": stored.tuning.model_copy(update={"learning_rates": rates}),
            "measurements": _united(stored.measurements, asked.measurements),
            "plugins": list(plugins.values()),
        }
    )
    labels = [point.arm.label for point in study.points()]
    _tell_less(asked, labels, seeds, folder, tell)
    addition = _addition(stored, study, folder)
    if addition is None:
        return stored
    return StudyConfig.parse({**study.model_dump(), "added": [*study.added, addition]})


def _point_as_grid(stored: StudyConfig, asked: StudyConfig) -> StudyConfig:
    """`asked`, with a single learning rate or size that is a point of the study's grid written as a grid of that point.

    So it counts as asking for less, not as a changed protocol.
    """
    more: dict[str, Any] = {}
    rate, rates = asked.training.learning_rate, stored.tuning.learning_rates
    if not asked.tuning.learning_rates and rate in rates:
        more["tuning"] = asked.tuning.model_copy(update={"learning_rates": [rate]})
        own = {"learning_rate": stored.training.learning_rate}
        more["training"] = asked.training.model_copy(update=own)
    if not asked.sizes and asked.size in stored.sizes:
        more |= {"sizes": [asked.size], "size": None}
    return asked.model_copy(update=more)


def looks_at(folder: Path) -> int:
    """How many times results of the study have been seen: once per conclusion, or when single runs were shown."""
    if not (folder / "study.json").exists():
        return int(any(folder.glob("runs/*/record.json")))
    record = StudyRecord.read(folder / "study.json")
    return 1 + max((addition.looks for addition in record.added), default=0)


def _refuse_other_protocol(stored: StudyConfig, asked: StudyConfig, folder: Path) -> None:
    old, new = flat(stored.model_dump(mode="json")), flat(asked.model_dump(mode="json"))
    for key in {**old, **new}:
        part = key.split(".")[0]
        if part in (*WRITTEN, "plugins") or part in GROWS or key in GROWS:  # plug-ins are compared elsewhere
            continue
        if old.get(key) != new.get(key):
            refuse_value(folder, key, old.get(key), new.get(key))
    for key, one, other in (
        ("sizes", stored.sizes, asked.sizes),
        ("tuning.learning_rates", stored.tuning.learning_rates, asked.tuning.learning_rates),
    ):
        if bool(one) != bool(other):
            refuse_value(folder, key, one or None, other or None)
    if asked.plan is not None and asked.plan != stored.plan:
        refuse_value(folder, "plan", stored.plan, asked.plan)
    if asked.corpus_digest not in (None, stored.corpus_digest):
        refuse_value(folder, "corpus_digest", stored.corpus_digest, asked.corpus_digest)


def _united_arms(stored: StudyConfig, asked: StudyConfig, folder: Path) -> list[Any]:
    known = {arm.label: arm for arm in stored.arms}
    for arm in asked.arms:
        old = known.get(arm.label)
        if old is not None and old != arm:
            one, other = flat(old.model_dump(mode="json")), flat(arm.model_dump(mode="json"))
            key = next(key for key in {**one, **other} if one.get(key) != other.get(key))
            raise RequestError(
                f"--out {folder}: arm {arm.label} has {key} {shown(one.get(key))} in the study there and "
                f"{shown(other.get(key))} now; another name for the new one would do"
            )
    labels = _united([arm.label for arm in stored.arms], [arm.label for arm in asked.arms])
    known |= {arm.label: arm for arm in asked.arms}
    return [known[label] for label in labels]


def _united(stored: Sequence[Item], asked: Sequence[Item]) -> list[Item]:
    """Both lists without repeats, `stored` first; but in the order of `asked` if that has all items.

    Then the grown study equals one that was asked for at once.
    """
    first, second = (asked, stored) if set(stored) <= set(asked) else (stored, asked)
    return list(dict.fromkeys([*first, *second]))


def _addition(stored: StudyConfig, study: StudyConfig, folder: Path) -> Addition | None:
    """What `study` has and `stored` has not; None if there is nothing."""
    before = {point.arm.label for point in stored.points()}
    arms = [point.arm.label for point in study.points() if point.arm.label not in before]
    seeds = [seed for seed in study.seeds if seed not in stored.seeds]
    measurements = [name for name in study.measurements if name not in stored.measurements]
    if not (arms or seeds or measurements):
        return None
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return Addition(when=when, looks=looks_at(folder), arms=arms, seeds=seeds, measurements=list(measurements))


def refuse_course(stored: StudyConfig, study: StudyConfig, folder: Path) -> None:
    """Raise a RequestError where a measurement is added that follows the training, and runs have ended without it."""
    if not any(folder.glob("runs/*/record.json")):
        return
    for item in named([name for name in study.measurements if name not in stored.measurements]):
        if isinstance(item, Measurement) and "course" in item.needs:
            raise RequestError(f"--out {folder}: {item.name} needs {NEEDED['course']}; a new folder would do")


def _tell_less(
    asked: StudyConfig, labels: Iterable[str], seeds: Iterable[int], folder: Path, tell: Callable[[str], None]
) -> None:
    wanted = {point.arm.label for point in asked.points()}
    more = [label for label in labels if label not in wanted]
    more += [f"seed {seed}" for seed in seeds if seed not in asked.seeds]
    if more:
        tell(f"{folder} holds more than was asked for, and all of it is shown: {', '.join(more)}")
