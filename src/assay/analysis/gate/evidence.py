"""What the folder of a gate holds, ready to be judged: losses and costs by arm and size, audits, tuning; no torch."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assay.analysis.gate.beside import beside
from assay.analysis.gate.budgets import Branches, at_budgets, losses_of, read_branches
from assay.analysis.gate.memory import Memory, read_memory
from assay.analysis.gate.tuned import Tried, runs_in, tuning_by_size
from assay.analysis.scaling.ladder import Cost, Ladder, Rung, Trained
from assay.analysis.scaling.noise import sd_of_run
from assay.analysis.wording import short
from assay.errors import RequestError
from assay.records import ArmColumn, MeasuredRun, StudyRecord
from assay.records.gate import Arm, GatePlan

SAME_SIZE = 0.01


@dataclass(frozen=True)
class Evidence:
    """Of one gate, or of one study with several sizes."""

    baseline: str
    candidates: Sequence[str]
    placebo: Sequence[str]
    control: str | None
    sizes: Sequence[int]
    """That all arms share, ascending."""
    top_size: int | None
    runs: Mapping[tuple[str, int], Mapping[int, MeasuredRun]]
    """(arm, size) -> seed -> run."""
    columns: Mapping[tuple[str, int], Sequence[ArmColumn]]
    """What was measured of the arm over its seeds."""
    unsound: Mapping[str, str]
    """Arm -> what an audit found, in one line."""
    tuning: Mapping[tuple[str, int], Tried]
    doubts: Sequence[str] = ()
    """Why the losses of some size cannot be compared; with any, nothing is decided."""
    notes: Sequence[str] = field(default_factory=list)
    memory: Memory = field(default_factory=dict)
    branches: Branches = field(default_factory=dict)
    """Runs to smaller budgets, which decide nothing."""

    def losses(self, label: str, size: int) -> dict[int, float]:
        """Seed -> test nats per token, of the runs that have them."""
        return losses_of(self.runs.get((label, size), {}))

    def diverged(self, label: str) -> int:
        """How many of its judged runs have no finite loss."""
        return sum(len(of) - len(self.losses(name, size)) for (name, size), of in self.runs.items() if name == label)

    def arm(self, label: str, size: int) -> Arm:
        """The record of one arm at one size."""
        runs = self.runs[label, size]
        tried = self.tuning.get((self._tuned_as(label), size))
        record = next(iter(runs.values())).record
        speeds = [run.record.train_tokens_per_second for run in runs.values()]
        peaks = [run.record.peak_memory_bytes for run in runs.values() if run.record.peak_memory_bytes is not None]
        rate = record.spec.get("training", {}).get("learning_rate")
        parameters = record.parameters.blocks_and_head or record.parameters.total
        return Arm(
            label=label,
            size=size,
            rate=rate,
            rate_text=tried.chosen().text() if tried else "not tuned by this gate",
            losses=self.losses(label, size),
            diverged=len(runs) - len(self.losses(label, size)),
            flops=float(record.flops_per_token.training) * record.tokens,
            parameters=parameters,
            tokens=record.tokens,
            seconds=record.tokens / statistics.median(speeds),
            state_bytes=record.state_bytes,
            peak_memory_bytes=round(statistics.median(peaks)) if peaks else None,
            beside=beside(runs, None if label == self.baseline else self.runs.get((self.baseline, size))),
            budgets=at_budgets(self.branches.get((label, size), {})),
        )

    def arms(self) -> list[Arm]:
        """All, size by size."""
        return [self.arm(label, size) for label, size in sorted(self.runs, key=lambda key: (key[1], key[0]))]

    def ladder(self, candidate: str) -> Ladder:
        """Losses and costs of the baseline and `candidate`; a ValueError where a run is missing.

        What tuning leaves uncertain is computed with the spread that these runs had.
        """
        untuned = self._ladder(candidate, None)
        return self._ladder(candidate, sd_of_run(untuned) or None) if self.tuning else untuned

    def _ladder(self, candidate: str, noise_nats: float | None) -> Ladder:
        sizes = [*self.sizes, *([self.top_size] if self.top_size else [])]
        return Ladder(
            tuple(
                Rung(
                    short(size),
                    self._trained(self.baseline, size, noise_nats),
                    self._trained(candidate, size, noise_nats) if (candidate, size) in self.runs else None,
                )
                for size in sizes
            )
        )

    def _trained(self, label: str, size: int, noise_nats: float | None) -> Trained:
        arm = self.arm(label, size)
        tried = self.tuning.get((self._tuned_as(label), size))
        cost = Cost(arm.flops, float(arm.parameters), float(arm.tokens), arm.seconds, float(arm.state_bytes))
        return Trained(arm.losses, cost, tried.chosen(noise_nats).variance if tried else 0.0)

    def _tuned_as(self, label: str) -> str:
        return self.baseline if label == self.control else label


def gate_evidence(folder: Path, plan: GatePlan) -> Evidence:
    """Read the judged stages of a gate; one that is missing or of other text is a RequestError."""
    studies = {}
    for stage in plan.stages:
        if stage.kind in ("judged", "control"):
            path = folder / stage.name / "study.json"
            if not path.exists():
                raise RequestError(f"{folder}: {stage.name} is not finished; the command that began it goes on with it")
            studies[stage.name] = StudyRecord.read(path)
    runs: dict[tuple[str, int], dict[int, MeasuredRun]] = {}
    columns: dict[tuple[str, int], Sequence[ArmColumn]] = {}
    for stage in plan.stages:
        if stage.name in studies:
            seeds = {arm.label: arm.seeds for arm in studies[stage.name].arms}
            for run in runs_in(folder / stage.name):
                if run.record.seed in seeds.get(run.record.label, []):
                    runs.setdefault((run.record.label, stage.size), {})[run.record.seed] = run
            columns |= {(arm.label, stage.size): arm.columns for arm in studies[stage.name].arms}
    for name, study in studies.items():
        _refuse_other_split(folder / name, study)
    _refuse_other_text(folder, runs)
    _refuse_unmeasured(folder, runs)
    tuning = tuning_by_size(folder, plan)
    return Evidence(
        baseline=plan.baseline,
        candidates=plan.candidates,
        placebo=plan.placebo,
        control=plan.control,
        sizes=plan.sizes,
        top_size=plan.top_size,
        runs=runs,
        columns=columns,
        unsound=_unsound(studies.values()),
        tuning=tuning,
        doubts=_doubts(studies),
        notes=_ends_of_grids(plan, tuning),
        memory=read_memory(folder, plan),
        branches=read_branches(folder, plan),
    )


def study_evidence(folder: Path, against: str | None) -> Evidence:
    """The same of a finished `compare` study with two sizes or more; `against` is the baseline."""
    study = StudyRecord.read(folder / "study.json")
    _refuse_other_split(folder, study)
    groups = list(dict.fromkeys(arm.group for arm in study.arms))
    baseline = against or study.protocol.get("rule", {}).get("baseline")
    if baseline not in groups:
        asked = f"--against {against}: no arm of this study" if against else f"--against: {folder} has no baseline"
        raise RequestError(f"{asked}; {', '.join(groups)} would do")
    chosen = [arm for arm in study.arms if arm.selected is not False]
    sizes = sorted({arm.size for arm in chosen if arm.size is not None})
    shared = [size for size in sizes if all(any(a.group == g and a.size == size for a in chosen) for g in groups)]
    if len(shared) < 2:
        raise RequestError(
            f"{folder}: has {len(shared)} sizes that all arms share; a gate reads a gain along two or more"
        )
    label_of = {arm.label: (arm.group, arm.size) for arm in chosen if arm.size in shared}
    seeds = {arm.label: arm.seeds for arm in chosen if arm.size in shared}
    runs: dict[tuple[str, int], dict[int, MeasuredRun]] = {}
    for run in runs_in(folder):
        if run.record.seed in seeds.get(run.record.label, []):
            group, size = label_of[run.record.label]
            runs.setdefault((group, size or 0), {})[run.record.seed] = run
    _refuse_unmeasured(folder, runs)
    tuned = bool(study.protocol.get("tuning", {}).get("learning_rates"))
    notes = [
        "Rates were chosen with the seeds that are judged, and count as known: intervals are too narrow by that."
        if tuned
        else "The arms were not tuned: with other learning rates the order may be another."
    ]
    return Evidence(
        baseline=str(baseline),
        candidates=[group for group in groups if group != baseline],
        placebo=[],
        control=None,
        sizes=shared,
        top_size=None,
        runs=runs,
        columns={(arm.group, arm.size or 0): arm.columns for arm in chosen if arm.size in shared},
        unsound={arm.group: arm.unsound for arm in chosen if arm.unsound is not None},
        tuning={},
        doubts=_doubts({"the study": study}),
        notes=notes,
    )


def _refuse_other_split(folder: Path, study: StudyRecord) -> None:
    if study.split != "test":
        raise RequestError(f"{folder}: is scored on the {study.split} split; a gate judges on test (evaluation.split)")


def _refuse_unmeasured(folder: Path, runs: Mapping[tuple[str, int], Mapping[int, MeasuredRun]]) -> None:
    """A finished run without a likelihood is no diverged one."""
    for of in runs.values():
        for seed, run in of.items():
            if run.record.status == "finished" and run.likelihood("test") is None:
                why = run.stale.get("likelihood", "it was not measured")
                name = f"{run.record.label}-seed{seed}"
                raise RequestError(
                    f"{folder}: {name} has no test loss ({why}); `assay measure` of its study gives it one"
                )


def _ends_of_grids(plan: GatePlan, tuning: Mapping[tuple[str, int], Tried]) -> list[str]:
    """Arms whose best rate still lies at an end of all that were tried."""
    found = []
    for label in dict.fromkeys(label for label, _ in tuning):
        for size in plan.sizes[:2]:  # where rates are tuned
            edge = tuning[label, size].chosen().at_an_edge if (label, size) in tuning else None
            if edge:
                found.append(
                    f"{label} at {short(size)}: its best rate is the {edge} of those tried; another may be better."
                )
    return found


def _refuse_other_text(folder: Path, runs: Mapping[tuple[str, int], Mapping[int, MeasuredRun]]) -> None:
    texts = {run.record.corpus_digest for of in runs.values() for run in of.values()}
    if len(texts) > 1:
        raise RequestError(f"{folder}: its stages read different texts, so nothing can be judged; a new --out would do")


def _unsound(studies: Iterable[StudyRecord]) -> dict[str, str]:
    found: dict[str, str] = {}
    for study in studies:
        found |= {arm.label: arm.unsound for arm in study.arms if arm.unsound is not None}
    return found


def _doubts(studies: Mapping[str, StudyRecord]) -> list[str]:
    doubts = []
    for name, study in studies.items():
        if not study.chains_equal:
            doubts.append(f"{name}: the arms did not read the same batches")
        if study.matched_within > SAME_SIZE:
            doubts.append(f"{name}: the arms differ by {study.matched_within:.1%} in size")
    return doubts
