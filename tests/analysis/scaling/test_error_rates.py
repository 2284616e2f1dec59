"""What a gate promises, on simulated ladders: the tables of docs/statistics.md, smaller here and whole where slow."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from assay.analysis.scaling.gain import log_gains
from assay.analysis.scaling.simulation import draw

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "verdicts.py"


@pytest.fixture(scope="module")
def verdicts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verdicts", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def placebo(verdicts: ModuleType, repeats: int, fixed: dict[str, Any]) -> tuple[int, int]:
    """How many of the placebo gates said GO, and NO-GO."""
    go = no_go = 0
    generator = np.random.default_rng(5)
    for truth, response, count in verdicts.mixture(generator, repeats, **fixed):
        of = log_gains(draw(generator, truth, count, response), truth.log_costs(), -1, 0.95)
        go, no_go = go + int((of.low > 0).sum()), no_go + int((of.high < 0).sum())
    return go, no_go


@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_placebo_gates_stay_undecided(verdicts: ModuleType, shape: str) -> None:
    most = stats.binom.ppf(0.995, 1000, 0.025)
    assert max(placebo(verdicts, 1000, {"shape": shape, "seeds": 3, "rungs": 3})) <= most


@pytest.mark.slow
@pytest.mark.parametrize("cell", [(s, n, g) for s in ("normal", "skewed") for n in (3, 5) for g in (3, 4, 5)], ids=str)
def test_placebo_gates_of_every_plan(verdicts: ModuleType, cell: tuple[str, int, int]) -> None:
    shape, seeds, rungs = cell
    most = stats.binom.ppf(0.9995, 4000, 0.025)
    assert max(placebo(verdicts, 4000, {"shape": shape, "seeds": seeds, "rungs": rungs})) <= most


@pytest.mark.slow
def test_the_tables_keep_what_is_promised(verdicts: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts.coverage(np.random.default_rng(9), 5000)
    for row in capsys.readouterr().out.splitlines()[4:]:
        if row.startswith("|"):
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert all(float(cells[column]) >= 93.5 for column in (1, 2, 3, 5)), row
    verdicts.control(np.random.default_rng(9), 2000)
    for row in capsys.readouterr().out.splitlines()[4:]:
        if row.startswith("|"):
            assert float(row.strip("|").split("|")[2].split("(")[0]) >= 90, row
