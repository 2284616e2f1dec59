"""gate.html of a made-up gate: the loss against every cost and along budgets, and what stands beside it."""

from pathlib import Path

from analysis.gate.ladders import evidence
from analysis.gate.test_beside import with_bits
from analysis.gate.test_budgets import branches
from assay.analysis.gate.judge import judge_gate
from assay.analysis.gate.rule import parse_rule
from assay.report.drawing.ladder import COSTS, ladder_figure
from assay.report.gate import write_gate_page

PLAIN = parse_rule({"name": "plain", "kind": "intervals"})


def test_page_shows_what_stands_beside_the_loss_every_cost_and_several_budgets(tmp_path: Path) -> None:
    of = evidence(1.2)
    runs = {key: dict(by_seed) for key, by_seed in of.runs.items()}
    size = of.sizes[0]
    runs["gpt1", size], runs["mine", size] = with_bits("gpt1", [2.0, 3.0, 4.0]), with_bits("mine", [1.9, 2.88, 3.92])
    record = judge_gate(evidence(1.2, runs=runs, branches=branches()), PLAIN, None, [], [])
    page = write_gate_page(record, None, tmp_path).read_text(encoding="utf-8")
    assert "manual, bits/byte" in page
    assert "2.900; -0.100 (-0.150 to -0.050)" in page
    assert all(COSTS[cost] in page for cost in COSTS)
    assert "Loss at several budgets" in page
    assert "-0.050 (-0.050 to -0.050)" in page
    assert (tmp_path / "report" / "budgets.csv").read_text().startswith("arm,size,cost,kind,seed,nats,low,high")
    drawn = sorted(path.name for path in (tmp_path / "report").glob("ladder*.csv"))
    assert drawn == sorted(["ladder.csv", *(f"ladder-{c}.csv".replace("_", "-") for c in COSTS if c != "flops")])
    assert (tmp_path / "report" / "ladder-seconds.csv").read_text().startswith("arm,size,cost,kind,seed,nats,low,high")


def test_a_cost_that_does_not_grow_has_no_figure() -> None:
    record = judge_gate(evidence(1.2), PLAIN, None, [], [])
    same = record.model_copy(update={"arms": [arm.model_copy(update={"state_bytes": 64}) for arm in record.arms]})
    assert ladder_figure(same, "state_bytes") is None
