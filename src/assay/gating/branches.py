"""Under `wsd` the judged runs of a gate show their loss at smaller budgets too, whose runs branch from theirs."""

from collections.abc import Sequence
from pathlib import Path

from assay.gating.asked import GateRequest
from assay.gating.stages import carry_out_runs
from assay.records.gate import Stage
from assay.records.results import LIKELIHOOD
from assay.study.branches import branch_study
from assay.study.compare import Listener
from assay.training.config import TrainingConfig

SHARES = (0.25, 0.5)
"""Of the tokens of a judged run."""


def why_none(request: GateRequest) -> str | None:
    """Why no smaller budgets branch although the schedule is `wsd`; None where they do."""
    training = request.study.training
    for arm in (request.baseline, *request.candidates):
        if (own := arm.training.get("schedule", "wsd")) != "wsd":
            return f"{arm.label} has the schedule {own}"
    if request.study.data.task is not None:
        return f"the sequences of {request.study.data.task} may go by the length of the run"
    for name, given in (
        ("weights: best", training.weights == "best"),
        ("keep", bool(training.keep)),
        ("stop_at_nats", training.stop_at_nats is not None),
    ):
        if given:
            return f"training.{name} does not go with it"
    return None


def trainings_of(request: GateRequest) -> dict[str | None, TrainingConfig]:
    """Arm -> its protocol, and None -> the study's own, where smaller budgets branch; empty where none do."""
    base = request.study.training
    if base.schedule != "wsd" or why_none(request) is not None:
        return {}
    arms = (request.baseline, *request.candidates)
    return {None: base, **{arm.label: TrainingConfig.parse({**base.model_dump(), **arm.training}) for arm in arms}}


def smaller_budgets(trainings: Sequence[TrainingConfig], tokens: int) -> list[int]:
    """The shares of `tokens`, in whole batches, of which every run has steps between warm-up and decay, and a decay."""
    found = []
    for share in SHARES if trainings else ():
        whole = [training.model_copy(update={"tokens": tokens}) for training in trainings]
        budget = round(share * whole[0].steps) * whole[0].batch_tokens
        if 0 < budget < tokens and all(_branches_off(training, budget) for training in whole):
            found.append(budget)
    return sorted(set(found))


def _branches_off(whole: TrainingConfig, budget: int) -> bool:
    return whole.warmup_steps < whole.branch(budget).stable_steps < whole.branch(budget).steps


def own_tokens(training: TrainingConfig, budget: int) -> int:
    """That a run to `budget` reads by itself, after those it shares with the longer one."""
    branch = training.branch(budget)
    return (branch.steps - branch.stable_steps) * branch.batch_tokens


def carry_out_branches(stage: Stage, folder: Path, listener: Listener, workers: int | None) -> None:
    """Train and score the runs of a stage of smaller budgets, each in a folder of its own; the rest is read."""
    judged = folder / stage.name.replace(stage.kind, "judged", 1)
    for budget in stage.budgets:
        place = folder / stage.name / f"tokens-{budget}"
        config, _ = branch_study(judged, budget, listener.message, place, [LIKELIHOOD])
        carry_out_runs(config, place, listener, workers)
