"""A run or a study together with what was measured of it, read from a folder; no torch."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.errors import RequestError
from assay.records.embedded import results_of_run, results_of_study
from assay.records.likelihood import Likelihood, Split
from assay.records.measurement import FOLDER, MeasurementResult
from assay.records.run import RunRecord

LIKELIHOOD = "likelihood"
"""The measurement that arms are ranked on."""
RECALL, TEXTS = "recall", "texts"
"""Those that a gate shows beside its losses: tokens that can be looked up, and several texts."""
Results = Mapping[str, MeasurementResult]
"""Name of a measurement -> its result; by group, then by name."""


@dataclass(frozen=True)
class MeasuredRun:
    """The record of a run, and the results that lie beside it and are of its weights."""

    record: RunRecord
    results: Results = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)
    """Name of a measurement -> why its result here is not the run's: of other weights, of another run, unreadable.

    Such a result is not in `results`."""

    @classmethod
    def read(cls, folder: Path) -> "MeasuredRun":
        """Read a run's folder, of any version; a broken record is a RequestError."""
        record = RunRecord.read(folder / "record.json")
        values = _older(folder / "record.json", 3)
        embedded = {} if values is None else {result.measurement: result for result in results_of_run(values)}
        weights = weights_digest(folder)
        results, stale = dict(embedded), dict[str, str]()
        for path in _result_files(folder):
            try:
                result = MeasurementResult.read(path)
            except RequestError as error:
                stale[path.stem] = str(error)
                continue
            of, name = result.measured, result.measurement
            if name != path.stem:
                stale[path.stem] = f"{path}: holds a result of {name}"
            elif of.spec_digest and record.spec_digest and of.spec_digest != record.spec_digest:
                stale[name] = f"{path}: is of another run"
            elif of.weights_sha256 and weights and of.weights_sha256 != weights:
                stale[name] = f"{path}: was measured on other weights than lie there now"
            else:
                results[name] = result
        return cls(record, in_order(results.values()), stale)

    def likelihood(self, split: Split) -> Likelihood | None:
        """The scores on `split`, never those on the other one."""
        scores = self.scores
        return scores if scores is not None and scores.split == split else None

    @property
    def scores(self) -> Likelihood | None:
        """On the split that the run is scored on; None where it diverged or was not measured yet."""
        result = self.results.get(LIKELIHOOD)
        return None if result is None else Likelihood.model_validate(result.values)

    def with_results(self, more: Iterable[MeasurementResult]) -> "MeasuredRun":
        """The same with `more` results, in place of older ones of the same name."""
        new = {result.measurement: result for result in more}
        stale = {name: why for name, why in self.stale.items() if name not in new}
        return MeasuredRun(self.record, in_order([*self.results.values(), *new.values()]), stale)


def read_study_results(folder: Path) -> Results:
    """The results of scope study in a study's folder, those too that an older study.json holds itself."""
    values = _older(folder / "study.json", 3) if (folder / "study.json").exists() else None
    embedded = [] if values is None else list(results_of_study(values))
    return in_order([*embedded, *stored_results(folder)])


def stored_results(folder: Path) -> list[MeasurementResult]:
    """What lies in the folder's measurements/; a file that cannot be read is a RequestError that names it."""
    return [MeasurementResult.read(path) for path in _result_files(folder)]


def _result_files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("*.json"))


def write_result(folder: Path, result: MeasurementResult) -> Path:
    """Write it, whole or not at all, into the folder's measurements/."""
    path = folder / FOLDER / f"{result.measurement}.json"
    path.parent.mkdir(exist_ok=True)
    result.write(path)
    return path


def weights_digest(folder: Path) -> str:
    """SHA-256 of the file with a run's weights; empty where there is none any more."""
    for name in ("checkpoint", "checkpoint.old"):
        path = folder / name / "model.safetensors"
        if path.exists():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return ""


def in_order(results: Iterable[MeasurementResult]) -> dict[str, MeasurementResult]:
    """By name; the last of a name stays."""
    of = {result.measurement: result for result in results}
    return {result.measurement: result for result in sorted(of.values(), key=lambda result: result.order)}


def _older(path: Path, version: int) -> dict[str, Any] | None:
    """The raw values of a record of a version before `version`, which has been read; None of a later one."""
    values: dict[str, Any] = json.loads(path.read_bytes())
    return values if values["schema_version"] < version else None
