"""Long names of arms in figures: in lines, and told apart by their ends where even those are too few."""

from collections.abc import Callable

import pytest

from assay.report.drawing.charts import arms_axis, names_legend
from assay.report.drawing.labels import LETTER, label_expression, wrapped

LONG = [
    "hybrid:pattern=[mamba2 x 5, attention],d_model=64,lr=1e-3",
    "hybrid:pattern=[mamba2 x 5, attention],d_model=64",
]


@pytest.mark.parametrize("width", [90, 200, 500])
@pytest.mark.parametrize("most", [1, 3])
def test_lines_have_the_width_and_names_stay_apart(width: int, most: int) -> None:
    lines = [wrapped(name, width, most) for name in LONG]
    assert lines[0] != lines[1]
    for name, of in zip(LONG, lines, strict=True):
        assert len(of) <= most
        assert max(map(len, of)) <= max(12, width / LETTER)
        text = " ".join(of)
        assert text.replace(" ", "") == name.replace(" ", "") or "\u2026" in text
        assert text.replace(" ", "").endswith(name[-4:])


def test_a_short_name_is_one_line_and_other_labels_stay() -> None:
    assert wrapped("gpt1", 90) == ["gpt1"]
    assert label_expression(
        {'a"b': ["x"]}
    ) == 'isDefined({"a\\"b": ["x"]}[datum.label]) ? {"a\\"b": ["x"]}[datum.label] : ' + ("datum.label")


@pytest.mark.parametrize("made", [lambda width: names_legend(LONG, width), lambda width: arms_axis(LONG, width)])
def test_legends_and_axes_have_whole_names_in_lines(made: Callable[[int], object]) -> None:
    for width in (270, 560):
        expression = made(width).to_dict()["labelExpr"]  # type: ignore[attr-defined]
        assert "1e-3" in expression
        assert all(f'"{name}": [' in expression for name in LONG)
