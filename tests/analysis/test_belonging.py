"""Two arms under one label, one arm under two, scores of the other split: refused."""

import pytest

from assay.errors import RequestError
from report.factory import arm_run, changed, run, study


def test_two_arms_of_one_architecture_are_two_arms() -> None:
    runs = [arm_run(name, seed, None, "gpt1", replicate=r) for name, r in (("a", 0), ("b", 1)) for seed in (0, 1)]
    record = study(runs)
    assert {(arm.label, arm.architecture, arm.replicate, tuple(arm.seeds)) for arm in record.arms} == {
        ("a", "gpt1", 0, (0, 1)),
        ("b", "gpt1", 1, (0, 1)),
    }
    assert {record.pairs[0].a, record.pairs[0].b} == {"a", "b"}


@pytest.mark.parametrize("asked", [{"learning_rate": 0.1}, {"d_ff": 3}, {"replicate": 1}])
def test_one_label_for_two_arms(asked: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="label a names two different arms: its runs with seeds 0 and 1"):
        study([arm_run("a", 0), arm_run("a", 1, **asked)])


def test_one_label_for_two_architectures() -> None:
    with pytest.raises(RequestError, match="label a names two different arms"):
        study([run("a", 0, spec={}, architecture="gpt1"), run("a", 1, spec={}, architecture="rwkv6")])


def test_two_labels_for_one_arm() -> None:
    with pytest.raises(RequestError, match="b and a are one arm under two names"):
        study([arm_run("a", 0), arm_run("b", 0)])
    assert study([arm_run("a", 0, spec_digest=""), arm_run("b", 0, spec_digest="")]).arms


def test_another_split_is_refused_rather_than_mixed() -> None:
    open_, closed = run("gpt1", 0), run("rwkv6", 0)
    closed = changed(closed, test=None, validation=closed.inside["test"])
    with pytest.raises(
        RequestError, match="rwkv6 with seed 0 has no test scores; it was scored on the validation split"
    ):
        study([open_, closed])
    with pytest.raises(RequestError, match="gpt1 with seed 0 has no validation scores"):
        study([open_, closed], split="validation")


def test_scores_of_two_versions_of_the_likelihood_are_refused() -> None:
    one, other = run("gpt1", 0), run("rwkv6", 0)
    newer = other.results["likelihood"].model_copy(update={"measurement_version": 99})
    with pytest.raises(RequestError, match="scored by versions 1 and 99 of the likelihood; `assay measure` scores"):
        study([one, other.with_results([newer])])
