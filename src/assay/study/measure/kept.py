"""Results of untrained arms, which have no folder of their own: kept in the cache under all that they follow from."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.cache import cache_folder
from assay.config import digest_of
from assay.errors import RequestError
from assay.evaluation.measurement import Measurement
from assay.evaluation.results import code_of, outdated
from assay.model.plan import ExecutionPlan
from assay.records import MeasurementResult
from assay.records.results import stored_results, write_result
from assay.study.measure.how import How
from assay.study.resolve import ResolvedArm, Study
from assay.training.environment import environment

MEASURING = ("analysis", "evaluation", "records")
"""The sources of assay that make a result out of a model."""


def kept_in(study: Study, arm: ResolvedArm, seed: int, plan: ExecutionPlan) -> Path:
    """The folder for results of the untrained `arm` with `seed`.

    Its name follows from the spec of the run that the arm would be, so from weights, text and protocol; from machine,
    torch, plan and the sources that decide numbers; and from the sources that measure.
    """
    key = {
        "label": arm.label,
        "spec": study.digest(arm, seed),
        "split": study.config.evaluation.split,
        "environment": environment(plan),
        "plan": plan.model_dump(mode="json"),
        "sources": _sources(),
    }
    return cache_folder() / "measured" / digest_of(key)[:32]


def kept(folder: Path, items: Sequence[Measurement[Any]], how: How) -> dict[str, MeasurementResult]:
    """Name -> the result that an earlier call left in `folder`, of those of `items` that today's code would give again.

    One that cannot be read counts as none. A smaller protocol does not stand for the whole one.
    """
    try:
        had = {result.measurement: result for result in stored_results(folder)}
    except RequestError:
        return {}
    wanted = [item for item in items if _keeps(item) and item.name in had]
    return {
        item.name: had[item.name]
        for item in wanted
        if outdated(item, had[item.name]) is None and not how.lacking(item, had[item.name], ["initial"])
    }


def keep(folder: Path, item: Measurement[Any], result: MeasurementResult) -> None:
    """Write `result` of `item` there, whole or not at all; one of a clock is not kept."""
    if _keeps(item):
        folder.mkdir(parents=True, exist_ok=True)
        write_result(folder, result)


def _keeps(item: Measurement[Any]) -> bool:
    """Whether it gives the same again, by code of which it is known whether it has changed."""
    code = code_of(item)
    return not item.timed and (code.kind == "built-in" or code.digest is not None)


@functools.cache
def _sources() -> str:
    """SHA-256 of the sources in `MEASURING`."""
    package = Path(__file__).parents[2]
    content = hashlib.sha256()
    for path in sorted(path for place in MEASURING for path in (package / place).rglob("*.py")):
        content.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    return content.hexdigest()
