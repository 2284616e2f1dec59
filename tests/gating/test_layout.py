"""The stages of a gate: every arm is tuned alike, no tuning seed is judged, and sizes follow the budget."""

import dataclasses

import pytest

from assay.errors import RequestError
from assay.gating.asked import Budget, parse_budget
from assay.gating.layout import (
    OPENING_SECONDS,
    PILOT_SEED,
    TUNING_SEED,
    Cost,
    Shape,
    lay_out,
    makespan,
    top_of,
    total,
)
from assay.gating.memory import MEMORY_TASKS, memory_tokens
from assay.gating.sizes import ladder_up_to, largest, nice_sizes, refuse_budget, rungs_for, seeds_for
from assay.records.gate import MemoryKind, Stage

SIZES = [100_000, 200_000, 400_000]


def shape(placebo: bool = False, workers: int = 1) -> Shape:
    return Shape("gpt1", ["mine"], placebo, 3, [1e-3, 3e-3, 1e-2], 20.0, 1_000, workers)


def cost(arm: str, size: int, tokens: int, task: MemoryKind | None = None) -> Cost:
    if task is not None:
        return Cost(100.0, 1.0)
    return Cost(1.0 + tokens * size * (2.0 if arm == "mine" else 1.0) * 1e-11, 6.0 * size * tokens)


def stages(placebo: bool = False) -> list[Stage]:
    return lay_out(shape(placebo), SIZES, cost)


def test_every_arm_is_tuned_alike() -> None:
    for placebo in (False, True):
        tuned = [stage for stage in stages(placebo) if stage.kind in ("tuning", "check")]
        assert [stage.size for stage in tuned] == SIZES[:2]
        for stage in tuned:
            assert stage.arms == ["gpt1", "mine", *(["placebo"] if placebo else [])]
            assert stage.runs == len(stage.arms) * 3
            assert len(stage.seeds) == 1


def test_no_seed_that_tuned_or_was_a_pilot_is_judged() -> None:
    seeds: dict[str, set[int]] = {}
    for stage in stages(placebo=True):
        seeds.setdefault(stage.kind, set()).update(stage.seeds)
    assert seeds["judged"] == seeds["control"] == {0, 1, 2}
    assert seeds["tuning"] == seeds["check"] == {TUNING_SEED}
    assert min(seeds["pilot"]) == PILOT_SEED


def test_baseline_goes_one_size_further_and_alone() -> None:
    top = [stage for stage in stages() if stage.kind == "judged"][-1]
    assert (top.size, top.arms) == (800_000, ["gpt1"])
    assert top_of([100, 300]) == 900


def test_tokens_are_equal_within_a_size_and_follow_it() -> None:
    judged = [stage for stage in stages(placebo=True) if stage.kind == "judged"]
    assert [stage.tokens for stage in judged] == [2_000_000, 4_000_000, 8_000_000, 16_000_000]
    control = [stage for stage in stages(placebo=True) if stage.kind == "control"]
    assert [2 * stage.tokens for stage in control] == [stage.tokens for stage in judged[:-1]]


def test_reading_other_texts_costs_judged_runs_a_forward_pass_and_no_flops_of_training() -> None:
    without, reading = stages(True), lay_out(dataclasses.replace(shape(True), beside_tokens=3_000_000), SIZES, cost)
    for before, after in zip(without, reading, strict=True):
        is_judged = after.kind in ("judged", "control")
        dearest = 2.0 if "mine" in after.arms else 1.0
        more = after.seeds and 1e6 * after.size * 1e-11 * len(after.seeds) * (len(after.arms) - 1 + dearest)
        assert after.seconds - before.seconds == pytest.approx(more if is_judged else 0.0)
        assert after.flops == before.flops


def test_cost_is_that_of_its_runs() -> None:
    top = [stage for stage in stages() if stage.kind == "judged"][-1]
    assert top.flops == 3 * 6.0 * 800_000 * 16_000_000
    assert total(stages()).flops == sum(stage.flops for stage in stages())


def test_memory_stages_have_the_judged_seeds_at_the_smallest_size() -> None:
    asked = dataclasses.replace(shape(placebo=True), memory=("recall", "statefulness"))
    found = lay_out(asked, SIZES, cost)
    memory = [stage for stage in found if stage.kind in ("recall", "statefulness")]
    assert [stage.name for stage in memory] == ["recall-0.1M", "statefulness-0.1M"]
    for stage in memory:
        assert stage.arms == ["gpt1", "mine"], "the placebo has no criteria"
        assert stage.seeds == [0, 1, 2]
        assert stage.tokens % MEMORY_TASKS[stage.kind].batch_tokens == 0
        assert (stage.seconds, stage.flops) == (OPENING_SECONDS + 6 * 100.0, 6.0), "by the timing of the task itself"


def test_memory_runs_read_no_more_than_a_judged_run() -> None:
    for kind, task in MEMORY_TASKS.items():
        assert memory_tokens(kind, 10**9) == task.tokens // task.batch_tokens * task.batch_tokens
        assert memory_tokens(kind, 5 * task.batch_tokens + 1) == 5 * task.batch_tokens
        assert memory_tokens(kind, 1) == task.batch_tokens


def test_makespan() -> None:
    assert makespan([3, 3, 2, 2, 2], 2) == 7
    assert makespan([3, 3, 2, 2, 2], 1) == 12
    assert makespan([5], 4) == 5


@pytest.mark.parametrize(
    ("text", "seconds", "flops"),
    [("30m", 1800, None), ("8h", 28_800, None), ("1.5d", 129_600, None), ("1e15flops", None, 1e15)],
)
def test_budget_is_read(text: str, seconds: float | None, flops: float | None) -> None:
    assert (parse_budget(text).seconds, parse_budget(text).flops) == (seconds, flops)


@pytest.mark.parametrize("text", ["30", "h", "-3h", "0m", "1e15", "8 hours", "nan h", ""])
def test_budget_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="30m, 8h") as caught:
        parse_budget(text)
    assert "\n" not in str(caught.value)


def test_too_small_a_budget_names_the_least() -> None:
    with pytest.raises(RequestError, match=r"--budget 10m: too small for the sizes .*; 23m would do"):
        refuse_budget(Cost(1200.0, 1e15), Budget(600.0, None, "10m"), SIZES)
    refuse_budget(Cost(1200.0, 1e15), Budget(23 * 60.0, None, "23m"), SIZES)
    with pytest.raises(RequestError, match="1e\\+15flops would do"):
        refuse_budget(Cost(1200.0, 1e15), Budget(None, 1e14, "1e14flops"), SIZES)


def test_more_time_means_more_sizes_and_seeds() -> None:
    budgets = [parse_budget(text) for text in ("30m", "2h", "8h")]
    assert [rungs_for(budget) for budget in budgets] == [2, 3, 4]
    assert [seeds_for(budget) for budget in budgets] == [3, 5, 5]


def test_ladder_halves() -> None:
    assert ladder_up_to(400_000, 3) == SIZES
    assert nice_sizes() == sorted(nice_sizes())


def test_a_size_that_an_arm_cannot_have_is_passed_over() -> None:
    def fits(size: int) -> bool:
        if size in (8, 10, 13, 40):
            raise RequestError("no such size")
        return size <= 30

    assert largest([8, 10, 13, 20, 25, 40, 50], fits) == 25
    assert largest([8, 10, 35, 40], fits) == 35, "none fits: the least possible one"
    with pytest.raises(RequestError, match="no such size"):
        largest([8, 10], fits)


def test_a_wider_grid_is_planned_for_where_arms_are_tuned() -> None:
    tuning, check = (stage for stage in stages() if stage.kind in ("tuning", "check"))
    for stage, tries, wider in ((tuning, 3, 0.5), (check, 3, 1.0)):
        of_both = 2 + 3 * stage.tokens * stage.size * 1e-11
        assert stage.seconds == pytest.approx((1 + wider) * OPENING_SECONDS + (tries + wider) * of_both)
