"""Several sizes: ranked and paired each by itself, decided together."""

import pytest

from assay.analysis.intervals.calibration import Family, critical_values
from assay.analysis.ranking.entrants import Point
from assay.records import StudyRecord
from report.factory import MadeUp, arm_run, changed, study
from report.made_up import sized

SIZES = {"0.5M": 500_000, "1M": 1_000_000}


def runs_and_points(names: tuple[str, ...] = ("gpt1", "rwkv6", "mamba2")) -> tuple[list[MadeUp], dict[str, Point]]:
    runs, points = [], {}
    for size, count in SIZES.items():
        for index, name in enumerate(names):
            points[f"{name} {size}"] = Point(name, count)
            for seed in range(3):
                nats = 5 - 0.2 * index - count / 1e7 + 0.02 * seed + 0.004 * ((seed * (index + 2)) % 3)
                runs.append(sized(arm_run(f"{name} {size}", seed, nats, name, d_model=count // 8000), count))
    return runs, points


def judged() -> StudyRecord:
    runs, points = runs_and_points()
    return study(runs, points=points)


def test_ranks_and_pairs_stay_within_a_size_and_one_level_holds_for_all() -> None:
    record = judged()
    assert record.ranked
    assert [arm.size for arm in record.arms] == [500_000] * 3 + [1_000_000] * 3
    assert [arm.rank for arm in record.arms] == [1, 2, 3, 1, 2, 3]
    assert len(record.pairs) == 6
    assert all(pair.a.split()[1] == pair.b.split()[1] for pair in record.pairs)
    assert all("6 pairs together" in pair.sentence for pair in record.pairs)
    assert {pair.level for pair in record.pairs} == {0.95}
    (value,) = critical_values(Family((3, 3), False, (3,)), 0.95)
    (alone,) = critical_values(Family((3,), False, (3,)), 0.95)
    assert value > alone, "more pairs take wider intervals"
    assert record.matched_within == 0.0, "within a size, not over both"


def test_tokens_per_parameter_are_said_for_each_size_and_stored_for_the_largest() -> None:
    record = judged()
    assert record.tokens_per_parameter == pytest.approx(655_360 / 1_000_480)
    assert record.headline[0].startswith("Training tokens per parameter: 1.31 at 0.5M parameters and 0.655 at 1M")


def test_a_size_that_is_not_ranked_is_named_and_the_other_keeps_its_ranks() -> None:
    runs, points = runs_and_points()
    runs[0] = changed(runs[0], data_chain="e" * 64)
    record = study(runs, points=points)
    assert not record.ranked
    assert record.not_ranked_because == (
        "at 0.5M parameters, with seed 0, gpt1 0.5M saw other batches than rwkv6 0.5M and mamba2 0.5M"
    )
    assert [arm.rank for arm in record.arms] == [None] * 3 + [1, 2, 3]
    assert [pair.resolved for pair in record.pairs] == [False] * 3 + [True] * 3
    assert all("as this size is not ranked" in pair.sentence for pair in record.pairs[:3])
    assert not record.chains_equal


def test_matching_is_per_size() -> None:
    runs, points = runs_and_points(("gpt1", "rwkv6"))
    runs = [sized(run, 1_100_000) if run.record.label == "rwkv6 1M" else run for run in runs]
    record = study(runs, points=points)
    assert record.not_ranked_because is not None
    assert record.not_ranked_because.startswith("at 1M parameters, parameters (total) lie up to 4.8% from their mean")
    assert "0.5M" not in record.not_ranked_because
