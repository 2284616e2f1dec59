"""The answer of one check: of an audit, of a contract, of a corpus."""

from typing import Literal

from assay.records.versioned import Record

Status = Literal["pass", "warn", "fail", "skip"]


class Finding(Record):
    """The answer of one check.

    `measured` and `threshold` are in the unit that `explanation` names: for changes of logits, relative to their root
    mean square. `where` is a sentence that starts with the earliest offending module; `modules` names all of them.
    """

    check: str
    status: Status
    measured: float | None = None
    threshold: float | None = None
    where: str | None = None
    modules: tuple[str, ...] = ()
    explanation: str
