"""One error budget."""

import pytest

from assay.analysis.scaling.budget import level_of_each


def test_one_budget() -> None:
    assert level_of_each(0.95, 1) == pytest.approx(0.95)
    assert level_of_each(0.95, 5) == pytest.approx(0.99)
    assert level_of_each(0.95, 0) == pytest.approx(0.95)
