"""Whether runs are of one study: one corpus, one number of tokens, one set of targets, one arm to a label."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay.analysis.columns import mixed
from assay.analysis.wording import join_names
from assay.errors import RequestError
from assay.records import MeasuredRun, RunRecord, Split
from assay.records.results import LIKELIHOOD


def refuse_strangers(measured: Sequence[MeasuredRun], split: Split) -> None:
    """Raise a RequestError where the runs cannot be of one study that is scored on `split`."""
    runs = [run.record for run in measured]
    if not runs:
        raise RequestError("a study needs at least one run; none given")
    _refuse_repeats(runs)
    first = runs[0]
    for run in runs:
        if run.corpus_digest != first.corpus_digest:
            raise RequestError(f"{_name(run)} was trained on another corpus than {first.label}; compare on one")
    _refuse_other_measures([run for run in measured if run.record.status == "finished"], split)
    of_label: dict[str, list[RunRecord]] = {}
    for run in runs:
        of_label.setdefault(run.label, []).append(run)
    for of in of_label.values():
        _refuse_two_arms(of)


def _refuse_repeats(runs: Sequence[RunRecord]) -> None:
    """No run twice, and no arm under two names."""
    seen: set[tuple[str, int]] = set()
    specs: dict[tuple[str, int], str] = {}
    for run in runs:
        if (run.label, run.seed) in seen:
            raise RequestError(f"{_name(run)} is there twice; give every run once")
        seen.add((run.label, run.seed))
        other = specs.setdefault((run.spec_digest, run.seed), run.label) if run.spec_digest else run.label
        if other != run.label:
            raise RequestError(f"{run.label} and {other} are one arm under two names; give it once")


def _refuse_other_measures(finished: Sequence[MeasuredRun], split: Split) -> None:
    """All finished runs are scored on `split`, on the same documents, after the same number of tokens."""
    for measured in finished:
        run, first, scores = measured.record, finished[0].record, measured.likelihood(split)
        if scores is None:
            other = "validation" if split == "test" else "test"
            told = f"it was scored on the {other} split" if measured.scores else "`assay measure` gives it some"
            raise RequestError(f"{_name(run)} has no {split} scores; {told}")
        if run.tokens != first.tokens:
            wanted = f"{first.tokens:,} of {first.label}"
            raise RequestError(
                f"{_name(run)} was trained on {run.tokens:,} tokens, not {wanted}; compare at one number"
            )
        documents = finished[0].likelihood(split)
        if documents is not None and scores.document_tokens != documents.document_tokens:
            raise RequestError(f"{_name(run)} was scored on other {split} documents than {first.label}")
    if versions := mixed(measured.results for measured in finished).get(LIKELIHOOD):
        told = f"versions {join_names(versions)} of the likelihood"
        raise RequestError(f"the runs were scored by {told}; `assay measure` scores them again")


def _refuse_two_arms(runs: Sequence[RunRecord]) -> None:
    """The runs of one label are one arm: their specs differ in nothing but the seed, and their sizes not at all."""
    first = runs[0]
    told = next((run for run in runs if run.spec), first)
    for run in runs:
        other_spec = run.spec and _without_seed(run.spec) != _without_seed(told.spec)
        if other_spec or (run.architecture, run.replicate) != (first.architecture, first.replicate):
            seeds = f"seeds {told.seed if other_spec else first.seed} and {run.seed}"
            raise RequestError(
                f"label {run.label} names two different arms: its runs with {seeds} were asked different things"
            )
        if (run.parameters, run.flops_per_token, run.state_bytes) != (
            first.parameters,
            first.flops_per_token,
            first.state_bytes,
        ):
            raise RequestError(f"{run.label} has one size with seed {first.seed}, another with {run.seed}")


def _without_seed(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "seed"}


def _name(run: RunRecord) -> str:
    return f"{run.label} with seed {run.seed}"
