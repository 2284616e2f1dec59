"""What the page shows and gives away besides figures: facts, the order of doubts, files of the main table."""

from pathlib import Path

from assay.records import ArmAudit
from assay.records.samples import FILE, Samples
from assay.report import sheets
from assay.report.diagnostics import diagnostic_columns, result_columns
from assay.report.exported import latex, markdown
from assay.report.page import write_report
from assay.report.results import doubts, facts
from report.factory import diverged, run, runs, study

EVIL = r"a_b|c&d%<i>\x"


def test_the_main_table_as_markdown_and_latex() -> None:
    record = study([run(EVIL, 0), run(EVIL, 1), run("gpt1", 0), run("gpt1", 1)])
    table = markdown(record).split("\n\n")[0].splitlines()
    assert len(table) == 2 + 2 + 2, "heads, a rule, two arms, two floors"
    assert {line.replace("\\|", "").count("|") for line in table} == {len(result_columns(record)) + 3}
    assert any(r"a\_b\|c&amp;d%&lt;i&gt;\\x" in line for line in table)
    text = latex(record)
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 5
    assert {line.replace(r"\&", "").count("&") for line in rows} == {len(result_columns(record)) + 1}
    assert r"a\_b\textbar{}c\&d\%\textless{}i\textgreater{}\textbackslash{}x" in text
    assert "unigram floor & 6.310" in text


def test_diagnostics_are_no_results() -> None:
    record = study(runs(2))
    of = {column.measurement for column in diagnostic_columns(record)}
    assert of == {"signals", "recall", "output_health"}
    assert of.isdisjoint(column.measurement for column in result_columns(record))
    (output,) = (column for column in diagnostic_columns(record) if column.measurement == "output_health")
    assert output.of_arm(record.arms[0]).first == "not overconfident", "an older result did not look for uniformity"


def test_unsoundness_and_floors_stand_before_tokens_per_parameter() -> None:
    audit = ArmAudit(label="gpt1", seed=0, moment="before training", sound=False, summary="leaks", findings=[])
    record = study([run("gpt1", 0), run("rwkv6", 0, 5.9)], audits=[audit])
    lines = doubts(record)
    assert sorted(lines) == sorted(record.headline)
    (tokens,) = (at for at, line in enumerate(lines) if "tokens per parameter" in line)
    assert any(line.startswith("UNSOUND") for line in lines[:tokens])
    assert any("not beat" in line for line in lines[:tokens])


def test_a_line_says_what_the_answer_is_of() -> None:
    record = study(runs(3), changes={"concluded": "2026-11-29"})
    assert facts(record, 655_360) == [
        "corpus stdlib", "tokenizer bpe:4096", "1.02M parameters", "655,360 training tokens", "3 seeds", "2026-11-29",
        "assay 0.1.0",
    ]  # fmt: skip


def test_what_all_runs_have_alike_has_no_column() -> None:
    some = [*runs(1), diverged("gpt1", 1, interruptions=2)]
    sheet = sheets.runs(study(some), some)
    heads = [head.text for head in sheet.heads]
    assert "interruptions" in heads
    assert "replicate" not in heads
    assert sheet.note == "Of all runs: architecture as the arm is called, replicate 0, resumed elsewhere no."
    assert {len(row) for row in sheet.rows} == {len(heads)}


def test_leaves_are_written_for_people() -> None:
    values = {"tokens": 1_206_122, "decay_all": False, "needs": None, "digest": "ab" * 32, "list": [1000, True]}
    found = {key: field.text for key, field in sheets.leaves(values)}
    assert found == {
        "tokens": "1,206,122",
        "decay_all": "no",
        "needs": "none",
        "digest": "ab" * 6,
        "list": "1,000, yes",
    }


def test_samples_are_shown_as_text(tmp_path: Path) -> None:
    some = [diverged("gpt1", 0)]
    Samples(prompt="<b>", sampler="greedy", seed=0, texts={"gpt1": "<script>x\x00"}).write(tmp_path / FILE)
    page = write_report(study(some), some, {}, tmp_path).read_text(encoding="utf-8")
    assert "&lt;script&gt;x\ufffd" in page
    assert "What they write" in page
