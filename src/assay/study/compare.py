"""A whole study: every arm with every seed, audits, floors, the record and the page. It continues, and it grows."""

import sys
from collections.abc import Container, Sequence
from pathlib import Path

import torch

from assay.analysis.ranking.verdicts import TWO_SEEDS
from assay.analysis.wording import counted
from assay.config import read_yaml
from assay.data.dataset import load_dataset
from assay.errors import RequestError
from assay.evaluation.measurement import MEASUREMENTS, Measurement
from assay.evaluation.results import outdated
from assay.records import ArmAudit, Floor, MeasuredRun, StudyRecord
from assay.study.asked import StudyConfig
from assay.study.audits import audit_fresh, audit_trained
from assay.study.branches import branch_study, refuse_branches
from assay.study.conclude import conclude, judge, measure_floors
from assay.study.executor.capacity import resolve_workers
from assay.study.executor.execute import execute
from assay.study.executor.job import RunListener
from assay.study.folder import (
    discard,
    lock,
    open_folder,
    refuse_older,
    rewrite_config,
    stored_config,
)
from assay.study.growth import grown, refuse_course
from assay.study.jobs import job_of, run_folder
from assay.study.live import Live
from assay.study.measure.given import arms_of, given_study
from assay.study.measure.results import can_measure_again, measure_study
from assay.study.resolve import (
    ResolvedArm,
    Study,
    refuse_other_data,
    resolve,
    threads_of_study,
    training_flops,
    with_measurements,
)
from assay.study.run import shortfalls, trained_record
from assay.study.sources import refuse_changed_sources
from assay.training.loop import StepEvent
from assay.training.native import build_ops
from assay.training.version import assay_version

Listener = RunListener
"""Whoever shows a study's progress."""


class Silent:
    """Shows no progress; what must be said goes to standard error."""

    def message(self, text: str) -> None:
        pass

    def notice(self, text: str) -> None:
        print(text, file=sys.stderr)

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        pass

    def step(self, name: str, event: StepEvent) -> None:
        pass

    def run_finished(self, name: str, run: MeasuredRun) -> None:
        pass


def compare(
    config: StudyConfig,
    folder: Path,
    listener: Listener | None = None,
    workers: int | None = None,
) -> StudyRecord:
    """Run the study in `folder`, or what is missing of it, and return its record; a finished study is read.

    More arms, seeds, sizes, learning rates or measurements than the study there has are added to it. Nothing is
    created before everything is known to fit: data, sizes, context. A folder that holds something else is a
    RequestError. `workers` is the number of runs at a time, None what suits.

    Each smaller budget of `training.branches` is then a study of its own in a folder inside, whose runs begin with the
    steps that they share with those of `folder`; the record is that of the largest.
    """
    listener = listener or Silent()
    refuse_branches(config)
    record = compare_at_full_budget(config, folder, listener, workers)
    for tokens in sorted(config.training.branches, reverse=True):
        branch, place = branch_study(folder, tokens, listener.notice)
        compare_at_full_budget(branch, place, listener, workers)
        listener.notice(f"{place / 'report.html'}: the study at {tokens:,} tokens")
    return record


def compare_at_full_budget(config: StudyConfig, folder: Path, listener: Listener, workers: int | None) -> StudyRecord:
    """The same without the smaller budgets of `training.branches`, for which its runs only keep checkpoints."""
    if config.training.stop_at_nats is not None:
        raise RequestError(
            f"training.stop_at_nats {config.training.stop_at_nats:g}: the arms of a study read equal tokens; "
            "`assay train` takes it"
        )
    stored = stored_config(folder, "study")
    config = with_measurements(config)
    config = config.model_copy(update={"kind": "study", "added": []})  # a repetition of a study has its own history
    if stored is not None:
        config = grown(stored, config, folder, listener.notice)
        refuse_course(stored, config, folder)
        refuse_changed_sources(config, folder)
        if (record := finished_study(config, folder)) is not None:
            _refuse_other_data(config, listener)
            _say_outdated(record, folder, listener)
            listener.notice(f"{folder}: finished before; shown again, nothing is trained")
            return record
        refuse_older(folder)
    study = resolve(config, listener.message)
    _refuse_other_corpus(study, folder)
    _refuse_other_code(study, folder)
    for line in study.dataset.description():
        listener.message(line)
    if stored is not None and (threads := threads_of_study(study)) != study.plan.threads:
        began = f"{folder}: threads stay {study.plan.threads} a run, as when it began"
        listener.notice(f"{began}; asked for at once they would be {threads}")
    resolved = study.config.model_copy(update={"plan": study.plan, "corpus_digest": study.dataset.digest})
    study = Study(resolved, study.arms, study.dataset, study.plan)
    made = open_folder(folder, resolved)
    try:
        with lock(folder):
            if stored_config(folder, "study") not in (stored, resolved):
                raise RequestError(f"--out {folder}: another process has just changed it; give the same command again")
            return _carry_out(study, folder, listener, workers)
    except OSError:
        if not any(folder.glob("runs/*/checkpoint")):
            discard(made)
        raise


def _refuse_other_data(config: StudyConfig, listener: Listener) -> None:
    """Raise a RequestError where the text of a finished study is another now; where it is gone, a line says so."""
    try:
        dataset = load_dataset(config.data, listener.message)
    except RequestError as error:
        listener.notice(f"the study is shown as it was, as its text cannot be read again: {error}")
        return
    refuse_other_data(config, dataset)


def _say_outdated(record: StudyRecord, folder: Path, listener: Listener) -> None:
    """A line for each measurement that would give other results today."""
    for of in record.measured:
        item = MEASUREMENTS.get(of.name) if of.name in MEASUREMENTS.names() else None
        if item is None or (isinstance(item, Measurement) and not can_measure_again(item, record.environment)):
            continue
        if (why := outdated(item, of)) is not None:
            listener.notice(f"{why}; `assay measure {folder}` measures it again")
    for place in sorted(path.parent for path in folder.glob("runs/*/record.json")):
        for line in MeasuredRun.read(place).stale.values():
            listener.notice(f"{line}; `assay measure {folder}` measures again what the table shows")


def finished_study(config: StudyConfig, folder: Path) -> StudyRecord | None:
    """The study's record where it holds all that `config` asks, None where something is left to do."""
    if not (folder / "study.json").exists():
        return None
    record = StudyRecord.read(folder / "study.json")
    labels = {point.arm.label for point in config.points()}
    complete = {arm.label for arm in record.arms} == labels and any(
        all(set(arm.seeds) == set(config.seeds[:count]) for arm in record.arms)
        for count in config.looks()
        if count == len(config.seeds) or decided(record)
    )
    # A measurement that was asked for counts as done even where no run has a result of it (all may have diverged).
    asked = record.protocol.get("measurements", [])
    measured = set(config.measurements) <= {*asked, *(of.name for of in record.measured)}
    return record if complete and measured and list(config.added) == record.added else None


def _carry_out(study: Study, folder: Path, listener: Listener, workers: int | None) -> StudyRecord:
    torch.set_num_threads(study.plan.threads)  # audits too end in the same bits, however many workers there are
    audits = [_audit_fresh(study, arm, listener) for arm in study.arms]
    rewrite_config(folder, study.config)  # only now: an arm that cannot be audited is not taken in
    live = Live(listener, folder, [arm.label for arm in study.arms], study.config.seeds)
    runs: list[MeasuredRun] = []
    trained: list[ArmAudit] = []
    floors: dict[str, Floor] = {}
    for count in study.config.looks():
        runs += _carry_out_seeds(study, study.config.seeds[len(runs) // len(study.arms) : count], folder, live, workers)
        trained += _audit_trained(study, runs, {audit.label for audit in trained}, folder, listener)
        if count < len(study.config.seeds):
            floors = floors or measure_floors(study)
            now = judge(study, runs, [*audits, *trained], {}, floors)
            listener.message(_told(now, count, study.config))
            if decided(now):
                break
    audits += trained
    records = [run.record for run in runs]
    given = given_study(arms_of(study), study.plan, study.config.seeds, listener.message)
    results, _ = measure_study(folder, study.of_study(), records, given)
    listener.message("floors and report")
    return conclude(study, runs, folder, audits, results, floors or measure_floors(study))


def _carry_out_seeds(
    study: Study, seeds: Sequence[int], folder: Path, listener: Listener, workers: int | None
) -> list[MeasuredRun]:
    """The runs of all arms with `seeds`, seed by seed in the order of the arms."""
    build_ops(study.plan, study.models_on_meta(), study.optimizers(), listener.message)
    # Seed by seed, so that an early look already compares; the longest runs first, so that no worker waits at the end.
    # How long a run of an arm takes is known after its first; before, FLOPs are a guess.
    longest_first = sorted(study.arms, key=lambda arm: -training_flops(arm))
    jobs = [job_of(study, arm, seed, folder) for seed in seeds for arm in longest_first]
    done = {
        (run.record.label, run.record.seed): run for run in execute(jobs, resolve_workers(workers, study), listener)
    }
    runs = [done[arm.label, seed] for seed in seeds for arm in study.arms]
    for line in dict.fromkeys(line for run in runs for line in shortfalls(run, study.plan)):
        listener.notice(line)
    return runs


def decided(record: StudyRecord) -> bool:
    """Whether every pair is resolved, so that no planned look is needed any more."""
    return all(pair.resolved for pair in record.pairs)


def _told(now: StudyRecord, count: int, config: StudyConfig) -> str:
    resolved = sum(pair.resolved for pair in now.pairs)
    if not now.pairs:
        return f"look after {count} seeds: no pair to decide; stopped"
    start = f"look after {count} seeds: {resolved} of {counted(len(now.pairs), 'pair')} resolved"
    if resolved and count == 2:
        start += f", {TWO_SEEDS}"
    if decided(now):
        return f"{start}; stopped"
    return f"{start}; goes on to {next(look for look in config.looks() if look > count)} seeds"


def _refuse_other_corpus(study: Study, folder: Path) -> None:
    """Raise a RequestError where runs in the folder, ended or half done, are of another corpus than would be read now.

    Without it the study would be trained to its end and only then not be comparable.
    """
    for path in sorted(folder.glob("runs/*/config.yaml")):
        began = read_yaml(path).get("corpus_digest")
        if began not in (None, study.dataset.digest):
            refuse_other_data(study.config.model_copy(update={"corpus_digest": began}), study.dataset)


def _refuse_other_code(study: Study, folder: Path) -> None:
    """Raise a RequestError where finished runs were made by another assay: new ones beside them would be a mixture."""
    for seed in study.config.seeds:
        for arm in study.arms:
            record = trained_record(study, arm, seed, run_folder(study, arm, seed, folder))
            if record is not None and record.environment.get("assay") != assay_version():
                raise RequestError(
                    f"--out {folder}: {arm.label}-seed{seed} was made by assay {record.environment.get('assay')} and "
                    f"this is {assay_version()}; that one can go on with it, or a new folder would do"
                )


def _audit_fresh(study: Study, arm: ResolvedArm, listener: Listener) -> ArmAudit:
    """Of the first seed, before a step is made. A study that grows is audited again: the audit may have learned."""
    listener.message(f"audit of {arm.label}")
    audit = audit_fresh(study, arm, study.config.seeds[0])
    if not audit.sound:
        listener.message(f"UNSOUND: {arm.label} will not be ranked: {audit.summary}")
    return audit


def _audit_trained(
    study: Study, runs: Sequence[MeasuredRun], audited: Container[str], folder: Path, listener: Listener
) -> list[ArmAudit]:
    """Every arm that is not `audited`, with its first seed that did not diverge."""
    audits = []
    for arm in (arm for arm in study.arms if arm.label not in audited):
        of_arm = [run.record for run in runs if run.record.label == arm.label]
        seeds = [run.seed for run in of_arm if run.status == "finished"]
        if seeds:
            listener.message(f"audit of {arm.label}, trained")
            audits.append(audit_trained(study, arm, seeds[0], run_folder(study, arm, seeds[0], folder)))
    return audits
