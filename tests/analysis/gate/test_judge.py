"""What a gate says of made-up candidates whose truth is known."""

import dataclasses
import math

import pytest

from analysis.gate.ladders import SIZES, TOP, evidence, loss, run_of, runs_of, with_divergence
from assay.analysis.gate.criteria import judge_criterion
from assay.analysis.gate.evidence import Evidence
from assay.analysis.gate.judge import judge_gate
from assay.analysis.gate.metrics import point_metrics, spike_ratio
from assay.analysis.gate.rule import Criterion, IntervalRule, parse_rule, read_rule
from assay.records import ArmColumn
from assay.records.gate import CandidateVerdict, GateRecord

PLAIN = parse_rule({"name": "plain", "kind": "intervals"})


def judged(of: Evidence, rule: object = PLAIN) -> GateRecord:
    assert isinstance(rule, IntervalRule) or rule is not None
    return judge_gate(of, rule, None, [], [])  # type: ignore[arg-type]


def only(record: GateRecord) -> CandidateVerdict:
    (verdict,) = record.verdicts
    return verdict


@pytest.mark.parametrize(("gain", "word"), [(1.5, "GO"), (1 / 1.5, "NO-GO"), (1.0, "UNDECIDED")])
def test_gain_decides(gain: float, word: str) -> None:
    record = judged(evidence(gain))
    assert record.verdict == only(record).verdict == word
    of_top = next(one for one in only(record).gains if one.per == "flops" and one.size == SIZES[-1])
    assert of_top.low is not None
    assert of_top.high is not None
    assert of_top.low < gain < of_top.high
    assert of_top.factor == pytest.approx(gain, rel=0.1)


def test_gain_is_of_each_axis() -> None:
    gains = {one.per: one for one in only(judged(evidence(1.5))).gains if one.size == SIZES[-1]}
    assert set(gains) == {"flops", "parameters", "seconds", "state_bytes"}
    # Compute grows with the square of the size, so a factor of it is a factor sqrt of the size.
    assert gains["parameters"].factor == pytest.approx(math.sqrt(1.5), rel=0.05)


def test_undecided_says_what_would_decide() -> None:
    verdict = only(judged(evidence(1.0)))
    assert "seeds" in verdict.closing
    assert only(judged(evidence(1.5))).closing == ""


def test_worthwhile_gain_is_the_threshold() -> None:
    asks_more = parse_rule({"name": "p", "kind": "intervals", "primary": {"worthwhile": 2.0}})
    assert judged(evidence(1.5), asks_more).verdict == "NO-GO"


def test_unsound_is_no_go_whatever_its_loss() -> None:
    verdict = only(judged(evidence(3.0, unsound={"mine": "reads the future"})))
    assert verdict.verdict == "NO-GO"
    assert "reads the future" in verdict.sentence
    assert verdict.gains == []


def test_losses_that_cannot_be_compared_decide_nothing() -> None:
    record = judged(evidence(3.0, doubts=["judged-0.1M: the arms did not read the same batches"]))
    assert record.verdict == "UNDECIDED"
    assert "same batches" in " ".join(record.headline)


def test_divergence_of_the_candidate_is_its_failure_and_of_the_baseline_nobodys() -> None:
    rule = read_rule("assay")
    assert judged(with_divergence(evidence(1.5), "mine", SIZES[0]), rule).verdict == "NO-GO"
    assert judged(with_divergence(evidence(1.5), "gpt1", SIZES[0]), rule).verdict == "UNDECIDED"


def test_placebo_and_control_have_their_own_verdicts_and_do_not_decide() -> None:
    of = evidence(1.5, placebo=["placebo"], control="half")
    runs = dict(of.runs)
    for size in SIZES:
        runs["placebo", size] = runs_of("placebo", size)
        runs["half", size] = {
            seed: run_of("half", size, seed, loss(size, tokens_share=0.5) + 0.001 * seed, tokens=10 * size)
            for seed in range(4)
        }
    record = judged(dataclasses.replace(of, runs=runs))
    assert {verdict.label: verdict.verdict for verdict in record.verdicts} == {
        "mine": "GO",
        "placebo": "UNDECIDED",
        "half": "NO-GO",
    }
    assert record.verdict == "GO"


def column(label: str, key: str, value: float, low: float, high: float) -> ArmColumn:
    return ArmColumn(
        key=key, head=key, format="number", value=value, low=low, high=high, measurement="speed", seeds=0, arm=label
    )


@pytest.mark.parametrize(("low", "high", "state"), [(0.9, 1.1, "PASS"), (0.1, 0.2, "FAIL"), (0.4, 0.7, "OPEN")])
def test_criterion_by_the_range_of_what_was_measured_by_turns(low: float, high: float, state: str) -> None:
    columns = {
        ("mine", SIZES[-1]): [column("mine", "speed", (low + high) / 2, low, high)],
        ("gpt1", SIZES[-1]): [column("gpt1", "speed", 1.0, 0.99, 1.01)],
    }
    criterion = Criterion(name="speed", column="speed", compare="ratio", at_least=0.5)
    assert judge_criterion(criterion, evidence(columns=columns), "mine", None, 0.99).state == state


def test_criterion_that_was_not_measured_is_open_and_says_so() -> None:
    criterion = Criterion(name="speed", column="speed", compare="ratio", at_least=0.5, required=True)
    found = judge_criterion(criterion, evidence(), "mine", None, 0.99)
    assert found.state == "OPEN"
    assert "not measured" in found.text
    rule = parse_rule({"name": "p", "kind": "intervals", "secondary": [criterion.model_dump()]})
    assert judged(evidence(1.5), rule).verdict == "UNDECIDED"


def test_exact_quantity_at_its_threshold_passes() -> None:
    criterion = Criterion(name="state", quantity="state_bytes", compare="ratio", at_most=1.0)
    assert judge_criterion(criterion, evidence(), "mine", None, 0.99).state == "PASS"


def test_trend_of_a_growing_gain() -> None:
    of = evidence(1.0)
    runs = dict(of.runs)
    for size, gain in zip(SIZES, (0.5, 1.0, 2.0), strict=True):
        runs["mine", size] = runs_of("mine", size, gain, noise=0.0005)
        runs["gpt1", size] = runs_of("gpt1", size, noise=0.0005)
    runs["gpt1", TOP] = runs_of("gpt1", TOP, noise=0.0005)
    assert only(judged(dataclasses.replace(of, runs=runs))).trend.startswith("GROWS")


def test_point_metrics() -> None:
    metrics = point_metrics(evidence(1.5), "mine")
    assert metrics["loss_ratio"] == pytest.approx(loss(SIZES[-1], 1.5) / loss(SIZES[-1]), rel=1e-2)
    assert metrics["statefulness_ratio"] is None
    assert metrics["loss_over_size_below"] is not None
    assert metrics["loss_over_size_below"] < 1
    losses = [loss(size, 1.5) for size in SIZES]
    slope = math.log(losses[-1] / losses[0]) / math.log(SIZES[-1] / SIZES[0])
    assert metrics["scaling_exponent"] == pytest.approx(-slope, rel=0.05)


def test_spike_is_found() -> None:
    calm = run_of("mine", SIZES[0], 0, 3.0).record
    assert (spike_ratio([calm]) or 0) < 1.5
    curve = list(calm.training_curve)
    curve[100] = curve[100].model_copy(update={"nats_per_token": 3 * curve[99].nats_per_token})
    assert (spike_ratio([calm.model_copy(update={"training_curve": curve})]) or 0) > 2


def test_nothing_is_judged_against_a_baseline_that_cheats() -> None:
    verdict = only(judged(evidence(0.3, unsound={"gpt1": "reads the future"})))
    assert verdict.verdict == "UNDECIDED"
    assert "baseline gpt1 is unsound" in verdict.sentence


def test_an_unsound_control_is_no_candidate() -> None:
    of = evidence(1.5, control="half", unsound={"half": "reads the future"})
    record = judged(of)
    assert [(verdict.label, verdict.role) for verdict in record.verdicts] == [
        ("mine", "candidate"),
        ("half", "control"),
    ]
    assert record.verdict == "GO"


@pytest.mark.parametrize("arm", ["mine", "gpt1"])
def test_no_mean_leaves_a_run_that_diverged_out(arm: str) -> None:
    of = with_divergence(evidence(1.5), arm, SIZES[-1])
    assert point_metrics(of, "mine")["loss_ratio"] is None
    assert judged(of, read_rule("groundthink-v5")).verdict == "UNDECIDED"


def test_losses_that_cannot_be_compared_decide_nothing_by_points_either() -> None:
    of = evidence(3.0, doubts=["judged-0.1M: the arms did not read the same batches"])
    assert judged(of, read_rule("groundthink-v7")).verdict == "UNDECIDED"


def test_several_candidates_share_the_error_budget() -> None:
    alone = evidence(1.2)
    runs = dict(alone.runs)
    for label in ("b", "c", "d"):
        runs |= {(label, size): runs_of(label, size) for size in SIZES}
    together = dataclasses.replace(alone, runs=runs, candidates=["mine", "b", "c", "d"])
    one, four = judged(alone).verdicts[0].gains[0], judged(together).verdicts[0].gains[0]
    assert (one.level, four.level) == (0.95, 0.9875)
    assert "98.75%" in four.text
    assert None not in (one.low, one.high, four.low, four.high)
    assert (four.low or 0) < (one.low or 0) < (one.high or 0) < (four.high or 0)
