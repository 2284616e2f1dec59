"""What the scale test says of an order: kept or reversed where both sizes resolve it, else not told."""

import importlib.util
from itertools import combinations
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments/scale_test/run.py"


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale_test_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def study(*losses: dict[str, float]) -> SimpleNamespace:
    """Two sizes; a pair is resolved where its arms are half a nat apart."""
    arms, pairs = [], []
    for size, of in enumerate(losses):
        arms += [SimpleNamespace(label=f"{name}@{size}", group=name, size=size) for name in of]
        for a, b in combinations(of, 2):
            apart = of[a] - of[b]
            pairs.append(SimpleNamespace(a=f"{a}@{size}", b=f"{b}@{size}", difference=apart, resolved=abs(apart) > 0.5))
    return SimpleNamespace(arms=arms, pairs=pairs)


def test_an_order_is_told_only_where_both_sizes_resolve_it(scale: ModuleType) -> None:
    found = scale.kept(study({"a": 1.0, "b": 2.0, "c": 2.1}, {"a": 1.0, "b": 2.0, "c": 0.2}))
    assert found == {"kept": ["a and b"], "reversed": ["a and c"], "open": ["b and c"]}
    (said,) = scale.said(found)
    assert said.startswith(
        "Of 3 pairs 1 are resolved at both sizes in the same order (a and b), 1 in opposite order (a"
    )
    assert scale.said(scale.kept(study({"a": 1.0}))) == ["No pair could be compared at both sizes."]
