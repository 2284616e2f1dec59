"""How the character of arms looks in the terminal: the four questions, sentences, and which two to fuse."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.analysis.character import claims, fusion
from assay.analysis.character.character import Character

LONGEST_NAME = 24


def show_character(of: Character, console: Console) -> None:
    """Question by question, an arm a paragraph."""
    if of.heading:
        console.print(Text(f"\n{of.heading}", style="bold"))
    for question in of.questions:
        _title(console, question.title, question.meaning, question.short)
        _rows(console, ((label, answer.text) for label, answer in question.answers.items()))
    _title(console, "In words")
    _rows(console, ((label, " ".join(lines)) for label, lines in of.words.items()))
    if of.pairs:
        _title(console, "Which two to fuse", "", fusion.in_short(of.pairs))
        _rows(console, fusion.RULES.items())
        console.print(Text(f"  {fusion.ADVICE}"))
        for pair in of.pairs:
            console.print(Text(f"  {pair.sentence}"))
    if of.claims:
        _title(console, "What the research documents claim of them", claims.WHY)
        for claim in of.claims:
            on = f", tried on {claim.label}" if claim.label else ""
            console.print(Text(f'  "{claim.text}" ({claim.document}{on}): {claim.holds}; {claim.ours}.'))


def _title(console: Console, title: str, meaning: str = "", short: str = "") -> None:
    console.print(Text(f"\n{title}", style="bold"))
    for line in (meaning, short):
        if line:
            console.print(Text(line))


def _rows(console: Console, rows: Iterable[Sequence[str]]) -> None:
    """Name and text beside each other, the text in lines."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(max_width=LONGEST_NAME, overflow="fold")
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(f"  {name}"), Text(text))
    console.print(table)
