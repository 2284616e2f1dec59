"""A study's config.yaml, study.json and page, brought to what its runs hold by now."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from assay.analysis.columns import arm_columns, measured_by, mixed
from assay.analysis.refresh import refreshed
from assay.analysis.statistics import mean_interval
from assay.config import read_yaml
from assay.evaluation.measurement import MEASUREMENTS
from assay.records import Addition, MeasuredBy, MeasuredRun, Results, StudyRecord
from assay.records.measurement import FOLDER
from assay.records.results import LIKELIHOOD, write_result
from assay.report.page import runs_in_order, write_report
from assay.study.asked import PluginFile, StudyConfig
from assay.study.folder import lock, rewrite_config
from assay.study.growth import looks_at
from assay.study.subject.run import read_run_config


def refresh(folder: Path, runs: Sequence[MeasuredRun], results: Results, measured: Iterable[str]) -> None:
    """Bring the concluded study in `folder` to what its `runs` and `results` are, where it says less or otherwise.

    `measured` are the names of what was measured now. What the study did not have is added after a look, and both files
    say so. They are read under the lock, so that what another process wrote meanwhile stays.
    """
    with lock(folder):
        study = StudyRecord.read(folder / "study.json")
        mine = runs_in_order(study, runs)
        changed = {*measured, *differing(study, mine, results)}
        if not changed:
            return
        had = {of.name for of in study.measured}
        new = [of.name for of in measured_by(mine, results) if of.name not in had]
        added = _with_additions(folder, study, new)
        record = refreshed(study, mine, results, changed, added)
        for name, result in results.items():  # an older study.json may hold them itself, and its successor does not
            if not (folder / FOLDER / f"{name}.json").exists():
                write_result(folder, result)
        write_report(record, mine, results, folder)
        record.write(folder / "study.json")


def differing(study: StudyRecord, runs: Sequence[MeasuredRun], results: Results) -> set[str]:
    """The names of the measurements that `runs` and `results` hold and that `study` has not, or has otherwise.

    Columns of an older record had fewer fields, so that they are no sign of a change.
    """
    had = {of.name: _of(of) for of in study.measured}
    changed = {of.name for of in measured_by(runs, results) if had.get(of.name) != _of(of)}
    hidden = mixed(run.results for run in runs)
    older = {of.name for of in study.measured if of.code.kind == "older record"}
    for arm in study.arms:
        of_arm = [run for run in runs if run.record.label == arm.label]
        scored = [(run.results, scores) for run in of_arm if (scores := run.likelihood(study.split)) is not None]
        nats = mean_interval([scores.nats_per_token for _, scores in scored]).mean if scored else None
        if nats is not None and (arm.scores is None or not math.isclose(nats, arm.scores.nats_per_token.mean)):
            changed.add(LIKELIHOOD)
        today = arm_columns(arm.label, [of for of, _ in scored], results, study.level, hidden)
        changed |= {column.measurement for column in today if column not in arm.columns} - older
    return changed


def _of(measured: MeasuredBy) -> tuple[object, ...]:
    """What tells two states of a measurement apart, whichever run came first."""
    return measured.version, measured.code.kind, measured.code.digest, sorted(measured.sentences)


def _with_additions(folder: Path, study: StudyRecord, new: Sequence[str]) -> list[Addition]:
    """What was added to the study with `new`; config.yaml says the same of those that it was not asked for before.

    The configuration may know of additions of its own, of a growth that has not ended: they stay there.
    """
    config = read_run_config(folder)
    when, looks = datetime.now(UTC).isoformat(timespec="seconds"), looks_at(folder)
    added = list(config.added)
    unasked = [name for name in new if name not in config.measurements]
    if unasked:
        added.append(Addition(when=when, looks=looks, measurements=unasked))
        if read_yaml(folder / "config.yaml").get("version") != 1:  # of an older version: it may not be written
            names = [*config.measurements, *unasked]
            more = {"measurements": names, "added": added, "plugins": [*config.plugins, *plugins_of(config, unasked)]}
            rewrite_config(folder, config.model_copy(update=more))
    own = [one for one in added if one not in study.added and not (one.arms or one.seeds)]
    told = [one for one in own if set(one.measurements) <= set(new)]
    asked = {*study.protocol.get("measurements", []), *(name for one in told for name in one.measurements)}
    rest = [name for name in new if name not in asked]
    untold = [Addition(when=when, looks=looks, measurements=rest)] if rest else []
    return [*study.added, *told, *untold]


def plugins_of(config: StudyConfig, names: Sequence[str]) -> list[PluginFile]:
    """The files that brought these measurements, as far as the study does not list them."""
    listed = {Path(plugin.path).resolve() for plugin in config.plugins}
    origins = {MEASUREMENTS.origin(name) for name in names}
    return [
        PluginFile(path=str(origin.path), sha256=origin.digest or "", measures_only=True)
        for origin in sorted(origins, key=lambda origin: str(origin.path))
        if origin.kind == "plug-in" and origin.path is not None and origin.path.resolve() not in listed
    ]
