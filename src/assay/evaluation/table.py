"""The table of measurements in docs/measurements.md: `python -m assay.evaluation.table docs/measurements.md`."""

import sys
from pathlib import Path

from assay.evaluation.measurement import MEASUREMENTS, Measurement

BEGIN, END = "<!-- measurements: begin -->\n", "<!-- measurements: end -->\n"


def table() -> str:
    """One line for each measurement that assay brings."""
    lines = ["| measurement | asks | unit | group | of | needs | version |", "|---|---|---|---|---|---|---|"]
    for item in MEASUREMENTS:
        if MEASUREMENTS.origin(item.name).kind == "built-in":
            needs = ", ".join(sorted(item.needs)) if isinstance(item, Measurement) else "all arms"
            name = f"[`{item.name}`](#{item.name})"
            cells = [name, item.question, item.unit, item.group, item.scope, needs, str(item.version)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """`page` with the table of today between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
