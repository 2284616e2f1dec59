"""What an audit asks of a trained model's folder: its data, its batches, and its honest likelihood."""

from collections.abc import Callable
from pathlib import Path

from assay.data.prepare import prepare
from assay.data.scoring import scoring_windows
from assay.errors import RequestError
from assay.evaluation.corpus.contamination import chain_finding, data_findings
from assay.evaluation.measurements.honest_likelihood import HonestLikelihood, honest_likelihood
from assay.hub.import_ import RECORD
from assay.model.lm import LanguageModel
from assay.model.plan import resolve_plan
from assay.records import Finding, RunRecord
from assay.study.auditable import Auditable
from assay.study.subject import read_run_config

Tell = Callable[[str], None]


def data_checks(folder: Path, tell: Tell) -> list[Finding]:
    """Contamination and the tokenizer of the corpus that `folder` was trained on; of a study the chains too."""
    if (folder / RECORD).exists():
        return []
    config = read_run_config(folder)
    records = [RunRecord.read(path) for path in sorted(folder.glob("runs/*/record.json"))]
    single = [RunRecord.read(folder / "record.json")] if (folder / "record.json").exists() else []
    digest = next((record.corpus_digest for record in [*records, *single]), None)
    tell("data: reading the corpus again")
    findings = data_findings(config.data, digest, tell)
    return [*findings, chain_finding(records)] if records else findings


def honest_scores(item: Auditable, tell: Tell) -> HonestLikelihood:
    """Reported and honest likelihood of a trained model on the split that it was scored on, else a RequestError.

    A test split that its study keeps closed stays closed.
    """
    if item.run is None or (item.run / RECORD).exists() or not isinstance(item.model, LanguageModel):
        raise RequestError(f"--honest: {item.name} was not trained here; the folder of a run or study would do")
    config = read_run_config(item.run)
    plan = config.plan or resolve_plan(config.execution, tell)
    corpus = prepare(config.data, tell)
    cap = config.evaluation.test_tokens
    windows = scoring_windows(
        corpus.split(config.evaluation.split), config.training.context, corpus.tokenizer.token_bytes, 0, cap
    )
    tell("honest: each target from its prefix alone")
    return honest_likelihood(plan.apply(item.model), windows, plan)
