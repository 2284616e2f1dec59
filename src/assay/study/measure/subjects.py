"""SUBJECT of `assay measure`: which folder, arm, file or import it is, and what all arms are asked at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.analysis.character.character import Character, character
from assay.data.corpus import Tell
from assay.errors import RequestError
from assay.evaluation.measurement import StudyMeasurement, expanded, named
from assay.hub.import_ import RECORD
from assay.records import Results
from assay.study.arm import ArmConfig, parse_arm
from assay.study.measure.how import EVERYTHING, How
from assay.study.measure.models import (
    architectures_in,
    look_at_arm,
    look_at_arms,
    look_at_file,
    look_at_imported,
    look_at_run_on_task,
)
from assay.study.measure.runs import Looked, look_at_run, look_at_study
from assay.study.subject.run import no_run_in
from assay.study.subject.subject import parse_subject


def look_at_all(
    subjects: Sequence[str], only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> list[Looked]:
    """Each of the subjects; those that are untrained arms together once more, for what is asked of all arms at once.

    A speed is of arms that take turns, which subjects measured one after the other do not.
    """
    arms = [arm for subject in subjects for arm in _arms_of(subject)]
    items = [] if only is None else named(expanded(only, "--only", groups_first=True))
    of_all = [item for item in items if isinstance(item, StudyMeasurement)]
    of_models = [item.name for item in items if not isinstance(item, StudyMeasurement)]
    found = []
    for subject in subjects:
        alone = bool(of_all) and not of_models and bool(_arms_of(subject))
        asked = of_models if of_all and _arms_of(subject) else only
        found += [] if alone else look_at(subject, asked, settings, tell, how)
    return [*found, look_at_arms(arms, of_all, settings, tell)] if of_all and arms else found


def characters_of(looked: Sequence[Looked]) -> list[Character]:
    """What the arms of each study are like inside, size by size; then all single models and runs together."""
    singles: dict[str, dict[int, Results]] = {}
    for one in looked:
        for results in one.results.values() if not one.is_study else ():
            for result in results.values():
                if result.scope == "run":
                    singles.setdefault(result.measured.label, {})[result.measured.seed or 0] = results
    together = character(singles, {})
    return [*(of for one in looked for of in one.characters), *([] if together is None else [together])]


def _arms_of(subject: str) -> list[ArmConfig]:
    """The untrained arms that SUBJECT names; none where it is a folder or an import."""
    it = parse_subject(subject)
    if it.kind == "arm":
        return [parse_arm(subject)]
    return [parse_arm(architecture.name) for architecture in architectures_in(it)] if it.kind == "file" else []


def look_at(
    subject: str, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> list[Looked]:
    """What SUBJECT = STUDY | RUN | ARM | FILE.py | hf:PATH names, measured where something is missing.

    `settings` say on which text or task a model is measured that no run here trained (the keys of config.yaml, nested).
    A run has its own data; with a task in the settings it is measured on that and nothing is stored, without one they
    are a RequestError. `how` says which weights are looked at, and whether by the smaller protocol.
    """
    only = None if only is None else expanded(only, "--only", groups_first=True)
    it = parse_subject(subject)
    if it.kind == "hub" or (it.kind == "folder" and (it.path / RECORD).exists()):
        return [look_at_imported(subject, only, settings, tell, how)]
    if it.kind == "file":
        return look_at_file(it, only, settings, tell, how)
    if it.kind == "arm":
        return [look_at_arm(parse_arm(subject), only, settings, tell, how)]
    if it.kind == "unknown":
        raise it.unknown()
    if "task" in settings.get("data", {}):
        return [look_at_run_on_task(run, only, settings, tell, how) for run in _runs_in(it.path)]
    if settings:
        raise RequestError(f"{subject}: is measured on its own text; data options are for models from elsewhere")
    return [_look_at_folder(it.path, only, tell, how)]


def _look_at_folder(folder: Path, only: Sequence[str] | None, tell: Tell, how: How) -> Looked:
    if (folder / "record.json").exists():
        return look_at_run(folder, only, tell, how)
    if not (folder / "config.yaml").exists():
        raise no_run_in(folder)
    if (folder / "metrics.jsonl").exists():
        raise RequestError(f"{folder}: is not trained to its end yet; `assay train` goes on with it")
    return look_at_study(folder, only, tell, how)


def _runs_in(folder: Path) -> list[Path]:
    """The run itself, or the finished runs of a study."""
    if (folder / "record.json").exists():
        return [folder]
    runs = sorted(path.parent for path in folder.glob("runs/*/record.json"))
    if not runs:
        raise (
            no_run_in(folder)
            if not (folder / "config.yaml").exists()
            else RequestError(f"{folder}: has no finished run yet; `assay train` and `assay compare` make them")
        )
    return runs
