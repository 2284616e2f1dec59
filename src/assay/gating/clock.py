"""How long the stages of a gate took, noted as they end."""

import json
from pathlib import Path

from assay.analysis.gate.prediction import CLOCK
from assay.records import write_whole


def note_seconds(folder: Path, stage: str, seconds: float) -> None:
    """How long a stage took, or what was left of an interrupted one; the report has it beside the plan's prediction."""
    path = folder / CLOCK
    known = json.loads(path.read_bytes()) if path.exists() else {}
    if stage in known:  # it was done before, and only read now
        return
    write_whole(path, json.dumps({**known, stage: seconds}).encode())
