"""A whole study: every arm with every seed, the floors, the record and the page. Interrupted, it continues."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from assay.analysis.comparison import compare_runs
from assay.data.batches import PackedWindows
from assay.data.scoring import scoring_windows
from assay.evaluation.floors import ngram_floors
from assay.evaluation.likelihood import summarise
from assay.ops.cross_entropy import IGNORED
from assay.records import ArmAudit, Floor, RunRecord, StudyRecord
from assay.report.page import PAGE, write_report
from assay.study.arm_audit import audit_fresh, audit_trained
from assay.study.folder import discard, lock, open_folder, refuse_other, stored_config
from assay.study.protocol import Arm, Study, StudyConfig, resolve
from assay.study.run import run_arm
from assay.training.loop import StepEvent
from assay.training.plan import environment

FLOOR_TOKENS = 20_000_000
"""The floors learn from at most so many of the tokens that the first arm's runs consumed."""


class Listener(Protocol):
    """Whoever shows a study's progress."""

    def message(self, text: str) -> None:
        """One line about the preparation."""

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        """Run `index` of `runs` begins, or goes on."""

    def step(self, event: StepEvent) -> None:
        """One optimizer step is done."""

    def run_finished(self, record: RunRecord) -> None:
        """A run is recorded."""


class Silent:
    """Shows nothing."""

    def message(self, text: str) -> None:
        pass

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        pass

    def step(self, event: StepEvent) -> None:
        pass

    def run_finished(self, record: RunRecord) -> None:
        pass


def compare(config: StudyConfig, folder: Path, listener: Listener | None = None) -> StudyRecord:
    """Run the study in `folder`, or what is left of it, and return its record; a finished study is read.

    Nothing is created before everything is known to fit: data, sizes, context. A folder that holds something else
    is a RequestError.
    """
    listener = listener or Silent()
    stored = stored_config(folder)
    if stored is not None:
        refuse_other(stored, config, folder)
        if (folder / "study.json").exists():
            return StudyRecord.read(folder / "study.json")
    study = resolve(stored or config, listener.message)
    made = open_folder(folder, study.config.model_copy(update={"plan": study.plan}))
    try:
        with lock(folder):
            audits = _audit_fresh(study, listener)
            runs = _run_all(study, folder, listener)
            audits += _audit_trained(study, runs, folder, listener)
            listener.message("floors and report")
            return conclude(study, runs, folder, audits)
    except OSError:
        if not any(folder.glob("runs/*/checkpoint")):
            discard(made)
        raise


def conclude(study: Study, runs: Sequence[RunRecord], folder: Path, audits: Sequence[ArmAudit]) -> StudyRecord:
    """Compare the runs, draw the page, and write study.json last: its presence says that the study is finished."""
    config = study.config
    record = compare_runs(
        list(runs),
        protocol={**config.model_dump(mode="json", exclude={"plan"}), "body": str(config.model.get("body", "native"))},
        corpus=study.corpus.summary(),
        floors=measure_floors(study),
        environment=environment(study.plan),
        match=config.match if config.size is not None else None,
        audits=audits,
    )
    record = record.model_copy(update={"report": PAGE})
    write_report(record, list(runs), folder)
    record.write(folder / "study.json")
    return record


def measure_floors(study: Study) -> dict[str, Floor]:
    """N-gram models trained on the tokens that the first seed's runs consumed, scored on the same test targets."""
    training, corpus = study.config.training, study.corpus
    windows = PackedWindows(corpus.train.ids, training.context, seed=study.config.seeds[0], order=training.order)
    steps = min(training.steps, max(1, FLOOR_TOKENS // training.batch_tokens))
    consumed = np.concatenate([windows.batch(step, training.batch_size) for step in range(steps)])
    tokenizer = corpus.tokenizer
    validation = scoring_windows(
        corpus.validation, training.context, tokenizer.token_bytes, 0, training.validation_tokens
    )
    test = scoring_windows(corpus.test, training.context, tokenizer.token_bytes, 0, study.config.evaluation.test_tokens)
    floors = {}
    for name, scores in ngram_floors(consumed, validation, test, tokenizer.vocab_size).items():
        nats = np.zeros(test.targets.shape)
        nats[test.targets != IGNORED] = scores
        likelihood = summarise(nats, test, corpus.invertible)
        floors[name] = Floor(
            nats_per_token=likelihood.nats_per_token,
            perplexity=likelihood.perplexity,
            bits_per_byte=likelihood.bits_per_byte,
        )
    return floors


def _run_all(study: Study, folder: Path, listener: Listener) -> list[RunRecord]:
    """Every arm with every seed, seed by seed, so that an early look already compares."""
    runs: list[RunRecord] = []
    jobs = [(arm, seed) for seed in study.config.seeds for arm in study.arms]
    for index, (arm, seed) in enumerate(jobs):
        name = _folder_of(folder, arm, seed).name
        listener.run_started(index, len(jobs), name, study.config.training.steps)
        runs.append(run_arm(study, arm, seed, _folder_of(folder, arm, seed), [listener.step]))
        listener.run_finished(runs[-1])
    return runs


def _folder_of(folder: Path, arm: Arm, seed: int) -> Path:
    return folder / "runs" / f"{arm.architecture.name}-seed{seed}"


def _audit_fresh(study: Study, listener: Listener) -> list[ArmAudit]:
    """Every arm with the first seed, before a step is made."""
    audits = []
    for arm in study.arms:
        listener.message(f"audit of {arm.architecture.name}")
        audits.append(audit_fresh(study, arm, study.config.seeds[0]))
        if not audits[-1].sound:
            listener.message(f"UNSOUND: {arm.architecture.name} will not be ranked: {audits[-1].summary}")
    return audits


def _audit_trained(study: Study, runs: Sequence[RunRecord], folder: Path, listener: Listener) -> list[ArmAudit]:
    """Every arm with its first seed that did not diverge."""
    audits = []
    for arm in study.arms:
        name = arm.architecture.name
        seeds = [run.seed for run in runs if run.architecture == name and run.status == "finished"]
        if seeds:
            listener.message(f"audit of {name}, trained")
            audits.append(audit_trained(study, arm, seeds[0], _folder_of(folder, arm, seeds[0])))
    return audits
