"""What a study comes to, once its runs are done: floors, the record, the page."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from assay.analysis.comparison import compare_runs
from assay.analysis.ranking.entrants import Point
from assay.data.dataset import TextDataset
from assay.data.task import TaskDataset
from assay.evaluation.corpus.floors import ngram_floors
from assay.evaluation.measurements.likelihood import summarise
from assay.records import ArmAudit, Floor, MeasuredRun, Ngram, Results, StudyRecord
from assay.report.page import PAGE, write_report
from assay.study.resolve import Study
from assay.study.samples import write_samples
from assay.targets import IGNORED
from assay.training.compiled import UNCOMPILED
from assay.training.environment import environment
from assay.training.native import IN_PYTHON

FLOOR_TOKENS = 20_000_000
"""The floors learn from at most so many of the tokens that the first arm's runs consumed."""


def conclude(
    study: Study,
    runs: Sequence[MeasuredRun],
    folder: Path,
    audits: Sequence[ArmAudit],
    results: Results,
    floors: Mapping[str, Floor],
) -> StudyRecord:
    """Compare the runs, draw the page, and write study.json last: its presence says that the study is finished."""
    record = judge(study, runs, audits, results, floors)
    today = datetime.now(UTC).date().isoformat()
    record = record.model_copy(update={"report": PAGE, "concluded": today})
    write_samples(study, record, runs, folder)
    write_report(record, runs, results, folder)
    record.write(folder / "study.json")
    return record


def judge(
    study: Study,
    runs: Sequence[MeasuredRun],
    audits: Sequence[ArmAudit],
    results: Results,
    floors: Mapping[str, Floor],
) -> StudyRecord:
    """Compare the runs there are."""
    config = study.config
    sized = any(arm.size is not None for arm in study.arms)
    return compare_runs(
        list(runs),
        protocol={
            **config.model_dump(mode="json", exclude={"plan", "added"}),
            "body": str(config.model.get("body", "native")),
        },
        corpus=study.dataset.summary(),
        floors=dict(floors),
        environment=environment(study.plan, _every(runs, "compiled", UNCOMPILED), _every(runs, "ops", IN_PYTHON)),
        match=config.match if sized else None,
        audits=audits,
        points={arm.label: Point(arm.group, arm.size, arm.training.learning_rate) for arm in study.arms},
        results=results,
        added=config.added,
        rule=config.rule,
        tuning=config.tuning,
        split=config.evaluation.split,
    )


def measure_floors(study: Study) -> dict[str, Floor]:
    """What a score must beat: on a text n-gram models that read what the first seed's runs consumed, on a task chance.

    Both are scored on the same held-out targets as the arms. A window that the runs read again is counted once: a
    second reading tells counts nothing.
    """
    dataset, training, evaluation = study.dataset, study.config.training, study.config.evaluation
    if isinstance(dataset, TaskDataset):
        nats = dataset.task.chance_nats(dataset.axes)
        return {"chance": Floor(nats_per_token=nats, perplexity=math.exp(nats), bits_per_byte=None)}
    if not isinstance(dataset, TextDataset):
        raise TypeError(f"{type(dataset).__name__}: neither a text nor a task")
    batches = dataset.batches(training.context, training.batch_size, study.config.seeds[0], training.order)
    epoch = -(-batches.windows // training.batch_size)
    steps = min(training.steps, epoch, max(1, FLOOR_TOKENS // training.batch_tokens))
    consumed = [np.concatenate([inputs, targets[:, -1:]], 1) for inputs, targets in map(batches.batch, range(steps))]
    validation = dataset.held_out("validation", training.context, training.validation_tokens)
    scored = dataset.held_out(evaluation.split, training.context, evaluation.test_tokens)
    once = np.concatenate(consumed)[: batches.windows]
    floors = ngram_floors(once, validation, scored, dataset.vocab_size)
    chosen = Ngram(
        order=floors.order,
        discounts=floors.discounts,
        validation_nats=floors.validation_nats,
        scored_nats=floors.test_nats,
    )

    def floor(nats: np.ndarray, ngram: Ngram | None) -> Floor:
        nats_of = np.zeros(scored.targets.shape)
        nats_of[scored.targets != IGNORED] = nats
        likelihood = summarise(nats_of, scored, dataset.invertible)
        return Floor(
            nats_per_token=likelihood.nats_per_token,
            perplexity=likelihood.perplexity,
            bits_per_byte=likelihood.bits_per_byte,
            ngram=ngram,
        )

    return {"unigram": floor(floors.unigram, None), "ngram": floor(floors.ngram, chosen)}


def _every(runs: Sequence[MeasuredRun], key: str, default: str) -> str:
    """What the environments of the runs say of `key`, each once."""
    return "; ".join(dict.fromkeys(run.record.environment.get(key, default) for run in runs))
