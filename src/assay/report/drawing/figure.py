"""One figure: a question, its data and how it is drawn, as SVG at any width and as CSV."""

import csv
import dataclasses
import io
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import altair as alt
import vl_convert

from assay.records import Arm, MeasuredRun, Split, write_whole
from assay.report.drawing.charts import Chart, lines_height, styled
from assay.report.drawing.looks import Looks
from assay.report.drawing.series import Row

WIDE, NARROW = 620, 330
"""Widths of a whole figure in pixels: for a desk, for a telephone."""
MARGIN = 60
"""About what an axis and its labels take of the width."""


class Drawn(NamedTuple):
    """What the figures of one size are drawn from."""

    arms: Sequence[Arm]
    runs: Sequence[MeasuredRun]
    """The finished ones of `names`."""
    names: Sequence[str]
    """The labels that have lines, in the order of ranks."""
    looks: Looks
    split: Split

    @property
    def called(self) -> dict[str, str]:
        """What each of `names` is called beside its line: its group, where no other of them is of that."""
        groups = {arm.label: arm.group or arm.label for arm in self.arms if arm.label in self.names}
        counts = Counter(groups.values())
        return {label: group if counts[group] == 1 else label for label, group in groups.items()}


@dataclasses.dataclass(frozen=True)
class Figure:
    """One chart: `rows` are its data; `draw(width)` gives it without title, `width` without the margin."""

    title: str
    caption: str
    rows: Sequence[Row]
    draw: Callable[[int], Chart]
    height: int | None = None
    """In pixels; None for that of a chart of lines."""

    def svg(self, width: int = WIDE) -> str:
        """The figure as SVG, `width` pixels wide."""
        title = alt.TitleParams(textwrap.wrap(self.title, width // 10), anchor="start", frame="bounds", offset=12)
        chart = self.draw(width - MARGIN)
        fit = alt.AutoSizeParams(type="fit-x", contains="padding")
        chart = chart.properties(
            title=title, width=width, height=self.height or lines_height(width - MARGIN), autosize=fit
        )
        svg: str = vl_convert.vegalite_to_svg(styled(chart, width))
        return svg

    def csv(self) -> str:
        """The data as CSV, one row a point."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def about(self, heading: str, remark: str) -> "Figure":
        """The same with `heading` (a size) in its title and `remark` after its caption, where there are any."""
        title = f"{self.title}, {heading}" if heading else self.title
        return dataclasses.replace(self, title=title, caption=f"{self.caption} {remark}".strip())


def write(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.svg and `name`.csv into `folder`."""
    paths = [folder / f"{name}.svg", folder / f"{name}.csv"]
    for path, text in zip(paths, (figure.svg(), figure.csv()), strict=True):
        write_whole(path, text.encode())
    return paths
