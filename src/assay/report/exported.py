"""The main table of a study as Markdown and as LaTeX, to be taken elsewhere."""

from assay.records import StudyRecord
from assay.report import quantities
from assay.report.columns import Cell
from assay.report.diagnostics import result_columns
from assay.report.results import SizeRows, size_rows

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}",
}  # fmt: skip
MARKDOWN = {character: f"\\{character}" for character in "\\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def markdown(study: StudyRecord) -> str:
    """A table of GitHub's Markdown, then what its intervals are."""
    heads, rows = _lines(study)
    lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)]]
    lines += [[_escaped(text, MARKDOWN) for text in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{_escaped(_note(study), MARKDOWN)}\n"


def latex(study: StudyRecord) -> str:
    """A tabular in the style of booktabs."""
    heads, rows = _lines(study)
    lines = [" & ".join(_escaped(text, LATEX) for text in row) + r" \\" for row in [heads, *rows]]
    return "\n".join(
        [
            f"% {' '.join(_note(study).split())} Needs \\usepackage{{booktabs}}.",
            f"\\begin{{tabular}}{{rl{'r' * (len(heads) - 2)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _lines(study: StudyRecord) -> tuple[list[str], list[list[str]]]:
    """The heads, and a row for each arm and floor; a column that is empty everywhere is left out."""
    columns = result_columns(study)
    rows = [line for group in size_rows(study, columns) for line in _of_size(group)]
    kept = [at for at in range(len(columns)) if any(row[2 + at] not in ("", quantities.MISSING) for row in rows)]
    heads = [f"{columns[at].head.first} ({_second(columns[at].head)})".replace(" ()", "") for at in kept]
    return ["#", "arm", *heads], [[*row[:2], *(row[2 + at] for at in kept)] for row in rows]


def _of_size(group: SizeRows) -> list[list[str]]:
    rows = [[row.rank, " ".join(row.name.first.split()), *map(_cell, row.cells)] for row in group.rows]
    heading = [["", group.heading, *[""] * (len(rows[0]) - 2)]] if group.heading else []
    floors = [f"{row.name.first} {row.name.second}".strip() if row.kind == "floor" else "" for row in group.rows]
    return [*heading, *([row[0], floor or row[1], *row[2:]] for row, floor in zip(rows, floors, strict=True))]


def _cell(cell: Cell) -> str:
    second = _second(cell)
    return f"{cell.first} ({second})" if second not in ("", quantities.MISSING) else cell.first


def _second(cell: Cell) -> str:
    return ", ".join(cell.second.split("\n"))


def _note(study: StudyRecord) -> str:
    split = f"{study.split} split; in brackets {quantities.percent(study.level)} intervals over seeds"
    version = study.environment.get("assay", "")
    return f"Scores on the {split} (of the other columns what the head says).{f' assay {version}.' if version else ''}"


def _escaped(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(character, character) for character in text)
