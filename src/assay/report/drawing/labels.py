"""Names of arms beside axes and in legends: in lines of the width that there is, so that none is cut at its end."""

import json
import textwrap
from collections.abc import Mapping, Sequence

LETTER = 6.6
"""Pixels that a letter of a label takes to the right."""
FEWEST_LETTERS = 12


def wrapped(name: str, width: float, most: int = 3) -> list[str]:
    """`name` in lines of about `width` pixels.

    Of a name that takes more than `most` lines the middle is left out: what tells arms apart stands at the end of their
    names as often as at the beginning.
    """
    letters = max(FEWEST_LETTERS, int(width / LETTER))
    lines = textwrap.wrap(name, letters)
    half = most * letters // 2
    while len(lines) > most and half > 1:
        half -= 1
        lines = textwrap.wrap(f"{name[:half]}\u2026{name[-half:]}", letters)
    return lines


def label_expression(lines: Mapping[str, Sequence[str]]) -> str:
    """A Vega expression that gives each label of an axis or a legend its lines; other labels stay."""
    table = json.dumps({name: list(of) for name, of in lines.items()})
    return f"isDefined({table}[datum.label]) ? {table}[datum.label] : datum.label"
