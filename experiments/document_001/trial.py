"""One condition in one form: trained through assay's training loop, measured, and kept in a file beside the run."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from ablation import Hits, hits, without_memory
from conditions import BY_NAME, SCALES, TASK, Condition, Form, Scale, settings, task_of
from vocabulary import made

from assay.analysis.intervals.proportions import clopper_pearson
from assay.data.config import DataConfig
from assay.data.corpus import silent
from assay.data.dataset import TextDataset, load_dataset
from assay.data.scoring import ScoringWindows
from assay.data.worded.dataset import TextTaskDataset
from assay.evaluation.measurements.honest_likelihood import honest_likelihood
from assay.plugins.loading import load_plugin
from assay.records import CurvePoint, MeasuredRun
from assay.study.asked import StudyConfig
from assay.study.run import train
from assay.study.subject.run import load_run, read_run_config

Z = 1.96


def outcome(name: str, form: Form, scale_name: str, corpus: str, out: Path) -> dict[str, Any]:
    """The numbers of a condition, read where they were measured before; a run that was killed is gone on with."""
    folder = out / form / name.replace(" ", "-").replace(",", "")
    kept = folder / "outcome.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    load_plugin(TASK)
    condition, scale = BY_NAME[name], SCALES[scale_name]
    tokenizer = made(corpus, scale.vocabulary, out)
    config = StudyConfig.parse(settings(condition, form, scale, corpus, tokenizer))
    run: MeasuredRun = train(config, folder, silent, [])
    found = {"condition": name, "form": form, **_measured(run, folder, condition, form, scale, tokenizer)}
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.replace(kept)
    return found


def _measured(
    run: MeasuredRun, folder: Path, condition: Condition, form: Form, scale: Scale, tokenizer: Path
) -> dict[str, Any]:
    config = read_run_config(folder)
    plan = config.plan
    assert plan is not None
    model = plan.apply(load_run(folder).model).eval()
    needle = load_dataset(DataConfig(task=task_of(condition, form, scale), tokenizer=str(tokenizer)), silent)
    assert isinstance(needle, TextTaskDataset)
    examples = needle.examples("test", scale.context, scale.examples)
    normal = hits(model, plan, needle, examples)
    with without_memory(model):
        zeroed = hits(model, plan, needle, examples)
    factless = hits(model, plan, needle, examples, facts=False)
    record = run.record
    found = {
        "parameters": record.parameters.total,
        "tokens": record.tokens,
        "examples": len(examples),
        **{f"normal_{key}": of for key, of in _shares(normal).items()},
        **{f"zeroed_{key}": of for key, of in _shares(zeroed).items()},
        "factless_chosen": float(factless.chosen.mean()),
        "points": {key: _points(getattr(normal, key), getattr(zeroed, key)) for key in Hits._fields},
    }
    if condition.text:
        data = load_dataset(config.data, silent)
        windows = _text(data, config.training.context, config.evaluation.test_tokens)
        curve = record.portion_curves.get("text", record.training_curve)
        honest = honest_likelihood(model, windows, plan, scale.honest)
        found["text"] = {
            "as_reported": math.exp(_last_tenth(curve)),
            "test": honest.reported_perplexity,
            "honest": honest.honest_perplexity,
            "gained_nats": honest.difference,
            "gained_low": honest.low,
            "gained_high": honest.high,
        }
    return found


def _text(data: object, context: int, tokens: int | None) -> ScoringWindows:
    """Held-out windows of the text that was trained on."""
    if isinstance(data, TextTaskDataset):
        return data.text_held_out("test", context, tokens)
    assert isinstance(data, TextDataset)
    return data.held_out("test", context, tokens)


def _last_tenth(curve: list[CurvePoint]) -> float:
    """The mean loss of the last tenth of the steps, of which the document reports the exponential as perplexity."""
    return float(np.mean([point.nats_per_token for point in curve[-max(1, len(curve) // 10) :]]))


def _shares(of: Hits) -> dict[str, list[float]]:
    """Mean and 95% interval of each way to count."""
    shares = {key: clopper_pearson(int(getattr(of, key).sum()), len(of.top)) for key in Hits._fields}
    return {key: [share.mean, share.low, share.high] for key, share in shares.items()}


def _points(normal: np.ndarray, zeroed: np.ndarray) -> list[float]:
    """What is lost without the memory, in points of a hundred, with its interval over examples."""
    lost = 100.0 * (normal.astype(float) - zeroed)
    error = Z * lost.std(ddof=1) / math.sqrt(len(lost))
    return [float(lost.mean()), float(lost.mean() - error), float(lost.mean() + error)]
