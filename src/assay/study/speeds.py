"""The speed of a study's arms: measured after training, all in one process, models that are alike only once."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from assay.evaluation.speed import Trainee, measure_speeds
from assay.model.architecture import build_model
from assay.records import Speed, StudyRecord
from assay.study.resolve import ResolvedArm, Study
from assay.study.workers import available_bytes, bytes_of_training


def measured_speeds(study: Study, before: StudyRecord | None, tell: Callable[[str], None]) -> dict[str, Speed]:
    """The speed of every arm, by label; empty where the study does not ask for it.

    Figures of another moment are not put beside these: what an earlier look measured stays only where it has all arms.
    Arms take turns as far as memory holds them at once, else group by group.
    """
    if "speed" not in study.config.measurements:
        return {}
    known = {} if before is None else {arm.label: arm.speed for arm in before.arms if arm.speed is not None}
    if all(arm.label in known for arm in study.arms):
        return {arm.label: known[arm.label] for arm in study.arms}
    first = {_shape(arm): arm for arm in reversed(study.arms)}
    seed = study.config.seeds[0]
    speeds: dict[str, Speed] = {}
    for group in _groups(list(reversed(first.values())), available_bytes()):
        tell(f"speed of {', '.join(arm.label for arm in group)}")
        trainees = {
            arm.label: Trainee(partial(build_model, arm.architecture, arm.config, seed), arm.training) for arm in group
        }
        speeds |= measure_speeds(trainees, study.plan, tell, seed)
    return {arm.label: speeds[first[_shape(arm)].label] for arm in study.arms}


def _groups(arms: Sequence[ResolvedArm], memory: int) -> Iterator[list[ResolvedArm]]:
    """The arms in order, as many at once as half of the free memory holds, at least one."""
    group: list[ResolvedArm] = []
    used = 0
    for arm in arms:
        needed = bytes_of_training(arm)
        if group and used + needed > memory // 2:
            yield group
            group, used = [], 0
        group.append(arm)
        used += needed
    yield group


def _shape(arm: ResolvedArm) -> str:
    """Equal for arms whose training steps are the same work."""
    return f"{arm.architecture.name} {arm.config.model_dump_json()}"
