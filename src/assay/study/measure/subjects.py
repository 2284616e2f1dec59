"""SUBJECT of `assay measure`: which folder, arm, file or import it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.data.corpus import Tell
from assay.errors import RequestError
from assay.evaluation.measurement import expanded
from assay.hub.import_ import RECORD
from assay.study.arm import parse_arm
from assay.study.measure.models import look_at_arm, look_at_file, look_at_imported, look_at_run_on_task
from assay.study.measure.runs import Looked, look_at_run, look_at_study
from assay.study.subject.run import no_run_in
from assay.study.subject.subject import parse_subject


def look_at(subject: str, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell) -> list[Looked]:
    """What SUBJECT = STUDY | RUN | ARM | FILE.py | hf:PATH names, measured where something is missing.

    `settings` say on which text or task a model is measured that no run here trained (the keys of config.yaml, nested).
    A run has its own data; with a task in the settings it is measured on that and nothing is stored, without one they
    are a RequestError.
    """
    only = None if only is None else expanded(only, "--only")
    named = parse_subject(subject)
    if named.kind == "hub" or (named.kind == "folder" and (named.path / RECORD).exists()):
        return [look_at_imported(subject, only, settings, tell)]
    if named.kind == "file":
        return look_at_file(named, only, settings, tell)
    if named.kind == "arm":
        return [look_at_arm(parse_arm(subject), only, settings, tell)]
    if named.kind == "unknown":
        raise named.unknown()
    if "task" in settings.get("data", {}):
        return [look_at_run_on_task(run, only, settings, tell) for run in _runs_in(named.path)]
    if settings:
        raise RequestError(f"{subject}: is measured on its own text; data options are for models from elsewhere")
    return [_look_at_folder(named.path, only, tell)]


def _look_at_folder(folder: Path, only: Sequence[str] | None, tell: Tell) -> Looked:
    if (folder / "record.json").exists():
        return look_at_run(folder, only, tell)
    if not (folder / "config.yaml").exists():
        raise no_run_in(folder)
    if (folder / "metrics.jsonl").exists():
        raise RequestError(f"{folder}: is not trained to its end yet; `assay train` goes on with it")
    return look_at_study(folder, only, tell)


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
