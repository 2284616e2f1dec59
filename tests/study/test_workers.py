"""How many runs go on at a time, and how many arms are measured at once: by cores, sizes and memory."""

from dataclasses import replace

import pytest

from assay.evaluation.turns import groups_in_memory
from assay.study.executor.capacity import resolve_workers, training_flops
from assay.study.measure.given import arms_of, given_study
from assay.study.resolve import Study, resolve
from assay.training.memory import training_bytes
from study.made_up import Make


@pytest.fixture
def study(make: Make) -> Study:
    return resolve(make(("gpt1", "rwkv6"), (0, 1)), lambda _: None)


def test_a_number_that_is_asked_is_taken_up_to_the_runs_there_are(study: Study) -> None:
    assert [resolve_workers(asked, study) for asked in (1, 2, 4, 9)] == [1, 2, 4, 4]


def test_by_itself_it_goes_by_cores_memory_device_and_length(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.study.executor.capacity.available_cores", lambda: 8)
    monkeypatch.setattr("assay.study.executor.capacity.available_bytes", lambda: 64 << 30)
    assert resolve_workers(None, study) == 1, "runs of a second are over before a process has begun"
    monkeypatch.setattr("assay.study.executor.capacity.WORTH_A_PROCESS_FLOPS", 1e6)
    assert resolve_workers(None, study) == 4, "no more than there are runs"
    wide = replace(study, plan=study.plan.model_copy(update={"threads": 4}))
    assert resolve_workers(None, wide) == 2
    monkeypatch.setattr("assay.study.executor.capacity.available_bytes", lambda: 1_600_000_000)
    assert resolve_workers(None, study) == 2
    monkeypatch.setattr("assay.study.executor.capacity.available_bytes", lambda: 1000)
    assert resolve_workers(None, study) == 1
    on_gpu = replace(study, plan=study.plan.model_copy(update={"device": "cuda"}))
    assert resolve_workers(None, on_gpu) == 1


def test_the_estimates_grow_with_what_is_trained(study: Study, make: Make) -> None:
    longer = resolve(make(("gpt1", "rwkv6"), (0,), training={"tokens": 24 * 256}), lambda _: None)
    for arm, more in zip(study.arms, longer.arms, strict=True):
        assert training_flops(more) == 2 * training_flops(arm)
        assert (
            training_bytes(arm.architecture, arm.config, arm.training) > 16 * arm.config.vocab_size * arm.config.d_model
        )


def test_arms_are_measured_together_as_far_as_memory_holds_them(study: Study) -> None:
    arms = arms_of(study)
    sizes = [training_bytes(arm.architecture, arm.config, arm.training) for arm in study.arms]
    assert [len(group) for group in groups_in_memory(arms, 2 * sum(sizes))] == [2]
    assert [len(group) for group in groups_in_memory(arms, 2 * sum(sizes) - 2)] == [1, 1]
    assert [len(group) for group in groups_in_memory(arms, 0)] == [1, 1]


def test_all_arms_are_measured_with_the_lowest_seed(study: Study) -> None:
    given = given_study(arms_of(study), study.plan, (2, 0, 1), lambda _: None)
    assert (given.seed, [arm.label for arm in given.arms]) == (0, ["gpt1", "rwkv6"])
