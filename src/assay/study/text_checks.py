"""Checks of the data of a trained model: contamination, equal batches in all runs, and honest likelihood."""

from pathlib import Path

from assay.data.corpus import Tell
from assay.data.dataset import load_dataset
from assay.errors import RequestError
from assay.evaluation.corpus.contamination import chain_finding, data_findings
from assay.evaluation.measurements.honest_likelihood import HonestLikelihood, honest_likelihood
from assay.hub.import_ import RECORD
from assay.model.lm import LanguageModel
from assay.model.plan import resolve_plan
from assay.records import Finding, RunRecord
from assay.study.resolve import refuse_other_data
from assay.study.subject.run import read_run_config, refuse_unknown_data
from assay.study.subject.subject import NamedModel


def data_checks(folder: Path, tell: Tell) -> list[Finding]:
    """Check the corpus that `folder` was trained on for contamination, and its tokenizer; of a study its chains too."""
    if (folder / RECORD).exists():
        return []
    config = read_run_config(folder)
    records = [RunRecord.read(path) for path in sorted(folder.glob("runs/*/record.json"))]
    single = [RunRecord.read(folder / "record.json")] if (folder / "record.json").exists() else []
    digest = next((record.corpus_digest for record in [*records, *single]), None)
    tell("data: reading the corpus again")
    findings = data_findings(config.data, digest, tell)
    return [*findings, chain_finding(records)] if records else findings


def honest_scores(item: NamedModel, tell: Tell) -> HonestLikelihood:
    """Reported and honest likelihood of a trained model, on the split that it was scored on; else a RequestError.

    Honest is the likelihood of each target from its prefix alone. A test split that the study does not read is not read
    here either.
    """
    if item.run is None or (item.run / RECORD).exists() or not isinstance(item.model, LanguageModel):
        raise RequestError(f"--honest: {item.name} was not trained here; the folder of a run or study would do")
    config = read_run_config(item.run)
    refuse_unknown_data(item.run, config)
    plan = config.plan or resolve_plan(config.execution, tell)
    dataset, evaluation = load_dataset(config.data, tell), config.evaluation
    refuse_other_data(config, dataset)
    windows = dataset.held_out(evaluation.split, config.training.context, evaluation.test_tokens)
    tell("honest: each target from its prefix alone")
    return honest_likelihood(plan.apply(item.model), windows, plan)
