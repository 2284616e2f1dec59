"""SUBJECT of `assay measure`: which folder, arm, file or import it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.data.corpus import Tell
from assay.errors import RequestError
from assay.evaluation.measurement import expanded
from assay.hub.import_ import RECORD
from assay.study.arm import parse_arm
from assay.study.measure.how import EVERYTHING, How
from assay.study.measure.models import look_at_arm, look_at_file, look_at_imported
from assay.study.measure.runs import Looked, look_at_run, look_at_study
from assay.study.subject.run import no_run_in
from assay.study.subject.subject import parse_subject


def look_at(
    subject: str, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> list[Looked]:
    """What SUBJECT = STUDY | RUN | ARM | FILE.py | hf:PATH names, measured where something is missing.

    `settings` say on which text a model is measured that no run here trained (the keys of config.yaml, nested); a run
    and a study have theirs, so that settings with them are a RequestError. `how` says which weights are looked at, and
    whether by the smaller protocol.
    """
    only = None if only is None else expanded(only, "--only")
    named = parse_subject(subject)
    if named.kind == "hub" or (named.kind == "folder" and (named.path / RECORD).exists()):
        return [look_at_imported(subject, only, settings, tell, how)]
    if named.kind == "file":
        return look_at_file(named, only, settings, tell, how)
    if named.kind == "arm":
        return [look_at_arm(parse_arm(subject), only, settings, tell, how)]
    if named.kind == "unknown":
        raise named.unknown()
    if settings:
        raise RequestError(f"{subject}: is measured on its own text; data options are for models from elsewhere")
    return [_look_at_folder(named.path, only, tell, how)]


def _look_at_folder(folder: Path, only: Sequence[str] | None, tell: Tell, how: How) -> Looked:
    if (folder / "record.json").exists():
        return look_at_run(folder, only, tell, how)
    if not (folder / "config.yaml").exists():
        raise no_run_in(folder)
    if (folder / "metrics.jsonl").exists():
        raise RequestError(f"{folder}: is not trained to its end yet; `assay train` goes on with it")
    return look_at_study(folder, only, tell, how)
