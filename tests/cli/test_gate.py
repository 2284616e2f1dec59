"""`assay gate`: what is wrong in a request is one line; a whole small gate, interrupted, continued and judged again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assay.records.gate import GatePlan, GateRecord
from cli.command import Assay
from cli.test_verbs import last_line

CASES = [
    (["gpt1", "--against", "gpt1", "--budget", "8h"], "is the baseline gpt1 itself"),
    (["again=gpt1", "--against", "gpt1", "--budget", "8h"], "is the baseline gpt1 itself"),
    (["gpt2", "--against", "gpt1"], "--budget: missing"),
    (["gpt2"], "--against: missing"),
    (["gpt2", "--against", "gpt1", "--budget", "8"], "--budget 8: a time"),
    (["gpt2", "--against", "gpt1", "--budget", "8h", "--rule", "asay"], "did you mean 'assay'"),
    (["gpt2", "--against", "gpt1", "--budget", "8h", "--rule", "mine.yaml"], "--rule mine.yaml"),
    (["gpt2", "--against", "gpt1", "--sizes", "100k"], "two or more"),
    (["gpt2", "--against", "gpt1", "--sizes", "10,20"], "--sizes"),
    (["gpt2", "--against", "gpt1", "--budget", "8h", "--seeds", "1"], "--seeds 1"),
    (["gpt2", "--against", "gpt1", "--budget", "8h", "--lr", "1e-3"], "three or more"),
    (["gpt2", "--against", "gpt1", "--budget", "8h", "--size", "1M"], "--sizes or --budget"),
    (["gpt2:lr=1e-3", "--against", "gpt1", "--budget", "8h"], "the gate chooses that for all alike"),
    (["gpt2", "--against", "nope", "--budget", "8h"], "unknown architecture"),
    (["gpt2", "--against", "gpt1", "--budget", "8h", "--set", "evaluation.split=validation"], "judged on test"),
]


GPT = ["gpt2", "--against", "gpt1"]
CASES += [
    ([*GPT, "--sizes", "100k,100k"], "stands twice"),
    ([*GPT, "--sizes", "0,100k"], "--sizes"),
    ([*GPT, "--sizes", "a,b"], "--sizes"),
    ([*GPT, "--budget", "8h", "--tokens-per-parameter", "0"], "--tokens-per-parameter 0: a number above zero"),
    ([*GPT, "--budget", "8h", "--tokens-per-parameter", "many"], "--tokens-per-parameter"),
    ([*GPT, "--budget", "1e999h"], "--budget 1e999h"),
    ([*GPT, "--budget", "8h", "--lr", "1e-3,1e-3,1e-2"], "0.001 stands twice"),
    ([*GPT, "--budget", "8h", "--lr", "1e-3,nan,1e-2"], "--lr"),
    ([*GPT, "--budget", "8h", "--seeds", "few"], "--seeds"),
    ([*GPT, "--budget", "8h", "--workers", "0"], "--workers"),
    ([*GPT, "--budget", "8h", "--tokenizer", "nope"], "tokenizer"),
    ([*GPT, "--budget", "8h", "--corpus", "text:no/such/file"], "no/such/file"),
    ([*GPT, "--budget", "8h", "--corpus", "wikitext999"], "wikitext999"),
    ([*GPT, "--budget", "8h", "--task", "needel"], "needle"),
    ([*GPT, "--budget", "8h", "--out", "/dev/null"], "--out /dev/null: is a file"),
    (["gpt2", "gpt2", "--against", "gpt1", "--budget", "8h"], "gpt2"),
    (["half=gpt2", "--against", "gpt1", "--budget", "8h", "--placebo"], "--placebo has an arm of that name"),
    (["gpt2:size=1M", "--against", "gpt1", "--budget", "8h"], "gpt2"),
    ([".", "--rule", "assay"], "holds no finished gate"),
]


@pytest.mark.parametrize(("arguments", "part"), CASES, ids=[f"{at}-{part}" for at, (_, part) in enumerate(CASES)])
def test_wrong_request_is_one_line_and_leaves_nothing(assay: Assay, arguments: list[str], part: str) -> None:
    before = assay.left()
    given = {"--corpus": f"text:{assay.corpus}", "--tokenizer": "bytes", "--context": "32"}
    usual = [word for option, value in given.items() if option not in arguments for word in (option, value)]
    result = assay("gate", *arguments, *usual)
    assert result.status == 2
    assert part in result.err
    assert len(result.lines) == 1
    assert assay.left() == before


def small(assay: Assay, *more: str) -> list[str]:
    """A gate of some forty runs of a few steps each."""
    text = [word for word in assay.tokens if word not in ("--tokens", "512")]
    words = "gpt2 --against gpt1 --sizes 16k,32k --seeds 2 --tokens-per-parameter 0.1 --workers 1 --out g"
    return ["gate", *words.split(), *text, "--batch-tokens", "256", *more]


@pytest.mark.slow
def test_whole_gate_is_planned_judged_and_judged_again(assay: Assay) -> None:
    planned = assay(*small(assay, "--placebo", "--dry-run", "--json"))
    assert planned.status == 0, planned.err
    plan = GatePlan.read(Path("g/plan.json"))
    assert last_line(planned.out)["digest"] == plan.digest == plan.digest_now()
    assert not list(Path("g").glob("judged-*"))

    found = assay(*small(assay, "--placebo", "--json"))
    assert found.status in (0, 1, 3), found.err
    assert GatePlan.read(Path("g/plan.json")) == plan, "the plan is obeyed, not made again"
    record = GateRecord.read(Path("g/gate.json"))
    assert {verdict.role for verdict in record.verdicts} == {"candidate", "placebo", "control"}
    assert found.status == {"GO": 0, "NO-GO": 1, "UNDECIDED": 3}[record.verdict]
    assert last_line(found.out)["verdict"] == record.verdict
    assert {arm.size for arm in record.arms} == {16_000, 32_000, 64_000}
    assert all(len(arm.losses) == 2 for arm in record.arms)
    assert record.changed == []
    page = Path("g/gate.html").read_text(encoding="utf-8")
    assert record.verdicts[0].sentence.split(":")[0] in page

    again = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "assay", "gate", "g", "--rule", "groundthink-v7"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode in (0, 1, 3), again.stderr[-500:]
    assert " torch\n" not in again.stderr.replace("| ", "").replace("  ", " ")
    judged = GateRecord.read(Path("g/gate.json"))
    assert "another rule than planned" in " ".join(judged.changed)

    values = json.loads(Path("g/plan.json").read_bytes())
    Path("g/plan.json").write_text(json.dumps({**values, "tokens_per_parameter": 0.2}))
    assay("gate", "g")
    assert "edited" in " ".join(GateRecord.read(Path("g/gate.json")).changed)


@pytest.mark.slow
def test_other_request_in_the_same_folder_is_refused(assay: Assay) -> None:
    assert assay(*small(assay, "--dry-run")).status == 0
    result = assay(*small(assay, "--dry-run", "--seeds", "3"))
    assert result.status == 2
    assert "holds another gate" in result.err


RULES = {
    "broken.yaml": ("kind: [1\n", "broken.yaml"),
    "list.yaml": ("- a\n", "a mapping of keys"),
    "empty.yaml": ("", "intervals or points would do"),
    "key.yaml": ("name: x\nkind: intervals\nlevle: 0.9\n", "did you mean 'level'"),
    "type.yaml": ("name: x\nkind: intervals\nlevel: high\n", "level"),
    "secondary.yaml": ("name: x\nkind: intervals\nsecondary: {a: 1}\n", "secondary"),
}


@pytest.mark.parametrize("name", RULES)
def test_wrong_rule_file_is_one_line(assay: Assay, name: str) -> None:
    text, part = RULES[name]
    Path(name).write_text(text)
    before = assay.left()
    result = assay("gate", *GPT, "--budget", "8h", "--rule", f"./{name}")
    assert result.status == 2
    assert part in result.err
    assert len(result.lines) == 1
    assert result.err.startswith("assay: --rule") or "--rule" in result.err
    assert assay.left() == before


def test_too_small_a_width_for_an_arm_names_the_size(assay: Assay) -> None:
    text = ["--corpus", f"text:{assay.corpus}", "--tokenizer", "bytes", "--context", "32"]
    before = assay.left()
    result = assay("gate", "groundthink", "--against", "gpt1", "--sizes", "100,200", *text)
    assert result.status == 2
    assert "--sizes" in result.err
    assert len(result.lines) == 1
    assert assay.left() == before
