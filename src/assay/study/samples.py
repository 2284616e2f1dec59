"""One generated text an arm, for people who want to see one: the same prompt, the same draws."""

from collections.abc import Sequence
from pathlib import Path

from assay.data.dataset import TextDataset
from assay.errors import RequestError
from assay.generation import Sampler, generate
from assay.records import MeasuredRun, StudyRecord
from assay.records.samples import FILE, Samples
from assay.study.resolve import Study
from assay.study.subject.run import load_run

PROMPT_TOKENS, WRITTEN_TOKENS = 16, 64
SAMPLER, SEED = Sampler(temperature=0.8), 0


def write_samples(study: Study, record: StudyRecord, runs: Sequence[MeasuredRun], folder: Path) -> None:
    """Write samples.json for the arms that are sound and selected, from their first seeds; of a task there is none."""
    if not isinstance(study.dataset, TextDataset):
        return
    context = study.config.training.context
    prompt = [
        int(token) for token in study.dataset.corpus.split("validation").ids[: min(PROMPT_TOKENS, max(1, context // 2))]
    ]
    tokens = min(WRITTEN_TOKENS, max(1, context - len(prompt)))
    shown = {arm.label for arm in record.arms if arm.unsound is None and arm.selected is not False}
    arms = {arm.label: arm for arm in study.arms}
    texts: dict[str, str] = {}
    for run in (run.record for run in runs):
        if run.label in shown and run.label not in texts and run.status == "finished":
            place = folder / "runs" / study.run_name(arms[run.label], run.seed)
            try:
                made = generate(load_run(place).model, [prompt], tokens, SAMPLER, SEED)
                texts[run.label] = study.dataset.tokenizer.decode([one.token for one in made])
            except RequestError as error:  # the page goes without: nothing is ranked by it
                texts[run.label] = f"[nothing: {error}]"
    text = study.dataset.tokenizer.decode(prompt)
    Samples(prompt=text, sampler=str(SAMPLER), seed=SEED, texts=texts).write(folder / FILE)
