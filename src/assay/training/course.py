"""course/NAME.jsonl in a run's folder: what an observer saw while the model was trained, and whose code observed."""

import json
from pathlib import Path
from typing import Any

OBSERVED_BY = "observed_by"
"""The key of the first line, which says whose code wrote the others."""


def course_file(folder: Path, name: str) -> Path:
    """The file in a run's folder to which the observer of this name writes."""
    return folder / "course" / f"{name}.jsonl"


def read_course(path: Path) -> list[dict[str, Any]]:
    """What the observer returned each time, first to last, with the `step`."""
    return [row for row in _lines(path) if OBSERVED_BY not in row]


def observed_by(path: Path) -> str | None:
    """Whose code wrote the rows of the file; None where it does not say."""
    return next((str(row[OBSERVED_BY]) for row in _lines(path) if OBSERVED_BY in row), None)


def add_row(path: Path, row: dict[str, Any], code: str | None) -> None:
    """Add a row to the file; before the first one stands whose `code` it is, at step 0, so that cutting back keeps it.

    A file without rows begins anew.
    """
    path.parent.mkdir(exist_ok=True)
    begun = path.exists() and bool(read_course(path))
    first = "" if begun or code is None else json.dumps({"step": 0, OBSERVED_BY: code}) + "\n"
    with path.open("a" if begun else "w", encoding="utf-8") as rows:
        rows.write(first + json.dumps(row) + "\n")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
