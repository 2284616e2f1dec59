"""Several token budgets from one study: runs to a smaller budget begin with the steps they share with the largest."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from assay.analysis.wording import counted
from assay.errors import RequestError
from assay.evaluation.measurement import expanded, named
from assay.records import write_whole
from assay.study.asked import StudyConfig
from assay.study.folder import open_folder, stored_config
from assay.study.jobs import run_folder
from assay.study.resolve import resolve
from assay.training.checkpoint import TrainingProgress, branch_folder
from assay.training.loop import rows_up_to


def refuse_branches(config: StudyConfig) -> None:
    """Raise a RequestError where a run to a smaller budget would need more than its first steps."""
    if not config.training.branches:
        return
    if config.data.task is not None:
        raise RequestError(
            f"training.branches: the sequences of --task {config.data.task} may go by the length of the run; a text "
            "would do"
        )
    if any("course" in getattr(item, "needs", ()) for item in named(expanded(config.measurements))):
        raise RequestError(
            "training.branches: what follows the course of training (--measure dynamics) looks at steps that go by "
            "its length; without it they would do"
        )


def branch_study(
    folder: Path,
    tokens: int,
    tell: Callable[[str], None],
    place: Path | None = None,
    measurements: Sequence[str] | None = None,
) -> tuple[StudyConfig, Path]:
    """The study of `folder` with another budget, and its folder, its runs prepared to go on from those of `folder`.

    The folder is `place`, or lies in `folder`; `measurements` are made in place of those of `folder`. Where a run
    diverged before it got there, or has no checkpoint for another reason, it is trained from its start.
    """
    whole = stored_config(folder, "study")
    if whole is None:
        raise ValueError(f"{folder} holds no study")
    asked = whole.measurements if measurements is None else list(measurements)
    update = {"training": whole.training.branch(tokens), "added": [], "measurements": asked}
    config = whole.model_copy(update=update)
    place = place or folder / f"tokens-{tokens}"
    if stored_config(place, "study") is None:
        open_folder(place, config)
    long, short = resolve(whole, lambda _: None), resolve(config, lambda _: None)
    shared, pairs = 0, 0
    for seed in config.seeds:
        for of_long, of_short in zip(long.arms, short.arms, strict=True):
            target = run_folder(short, of_short, seed, place)
            pairs += 1
            if (target / "checkpoint").exists() or (target / "record.json").exists():
                continue
            step = of_short.training.stable_steps
            source = run_folder(long, of_long, seed, folder)
            if branch_folder(source, step).exists():
                _begin(source, step, target)
                shared += step
    total = sum(arm.training.steps for arm in short.arms) * len(config.seeds)
    if shared:
        tell(f"{place.name}: {counted(pairs, 'run')}, {shared / total:.0%} of the steps taken over from {folder.name}")
    return config, place


def _begin(source: Path, step: int, target: Path) -> None:
    """Make `target` a run that was interrupted after the steps that `source` had done by then."""
    target.mkdir(parents=True, exist_ok=True)
    write_whole(target / "metrics.jsonl", rows_up_to(source / "metrics.jsonl", step).encode())
    new = target / "checkpoint.new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(branch_folder(source, step), new)
    progress = TrainingProgress.read(new / "progress.json")
    progress.model_copy(update={"branched_at": step}).write(new / "progress.json")
    new.rename(target / "checkpoint")
