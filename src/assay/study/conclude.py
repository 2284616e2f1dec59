"""What a study comes to, once its runs are done: floors, the record, the page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assay.analysis.comparison import compare_runs
from assay.analysis.entrants import Point
from assay.data.batches import PackedWindows
from assay.data.scoring import scoring_windows
from assay.evaluation.corpus.floors import ngram_floors
from assay.evaluation.measurements.likelihood import summarise
from assay.ops.cross_entropy import IGNORED
from assay.records import ArmAudit, Floor, MeasuredRun, Results, StudyRecord
from assay.report.page import PAGE, write_report
from assay.study.resolve import Study
from assay.training.environment import environment

FLOOR_TOKENS = 20_000_000
"""The floors learn from at most so many of the tokens that the first arm's runs consumed."""


def conclude(
    study: Study,
    runs: Sequence[MeasuredRun],
    folder: Path,
    audits: Sequence[ArmAudit],
    results: Results,
) -> StudyRecord:
    """Compare the runs, draw the page, and write study.json last: its presence says that the study is finished."""
    config = study.config
    sized = any(arm.size is not None for arm in study.arms)
    record = compare_runs(
        list(runs),
        protocol={
            **config.model_dump(mode="json", exclude={"plan", "added"}),
            "body": str(config.model.get("body", "native")),
        },
        corpus=study.corpus.summary(),
        floors=measure_floors(study),
        environment=environment(study.plan),
        match=config.match if sized else None,
        audits=audits,
        points={arm.label: Point(arm.group, arm.size, arm.training.learning_rate) for arm in study.arms},
        results=results,
        added=config.added,
        rule=config.rule,
        tuning=config.tuning,
        split=config.evaluation.split,
    )
    record = record.model_copy(update={"report": PAGE})
    write_report(record, runs, results, folder)
    record.write(folder / "study.json")
    return record


def measure_floors(study: Study) -> dict[str, Floor]:
    """N-gram models trained on the tokens that the first seed's runs consumed, scored on the same held-out targets."""
    training, evaluation, corpus = study.config.training, study.config.evaluation, study.corpus
    windows = PackedWindows(corpus.train.ids, training.context, seed=study.config.seeds[0], order=training.order)
    steps = min(training.steps, max(1, FLOOR_TOKENS // training.batch_tokens))
    consumed = np.concatenate([windows.batch(step, training.batch_size) for step in range(steps)])
    tokenizer = corpus.tokenizer
    validation = scoring_windows(
        corpus.validation, training.context, tokenizer.token_bytes, 0, training.validation_tokens
    )
    held_out = corpus.split(evaluation.split)
    scored = scoring_windows(held_out, training.context, tokenizer.token_bytes, 0, evaluation.test_tokens)
    floors = {}
    for name, scores in ngram_floors(consumed, validation, scored, tokenizer.vocab_size).items():
        nats = np.zeros(scored.targets.shape)
        nats[scored.targets != IGNORED] = scores
        likelihood = summarise(nats, scored, corpus.invertible)
        floors[name] = Floor(
            nats_per_token=likelihood.nats_per_token,
            perplexity=likelihood.perplexity,
            bits_per_byte=likelihood.bits_per_byte,
        )
    return floors
