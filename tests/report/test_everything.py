"""A study with four arms, a grid, two sizes and an addition after a look: table, page and figures keep them apart."""

import csv
import hashlib
import io
import itertools
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from assay.analysis.rule import Rule
from assay.records import Addition, MeasuredRun, MeasurementResult, Results, StudyRecord
from assay.report.drawing.looks import looks
from assay.report.drawing.study import study_figures
from assay.report.page import write_report
from assay.report.table import plain
from report.factory import MadeUp, arm_run, changed, run, runs, study
from report.made_up import everything

Made = tuple[StudyRecord, list[MadeUp], dict[str, MeasurementResult]]
FIXTURE = Path(__file__).parents[1] / "fixtures" / "schema1" / "study"


class Words(HTMLParser):
    """The text of a page outside its styles, one space between words."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tag = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag

    def handle_data(self, data: str) -> None:
        if self.tag != "style":
            self.said.append(data)

    def __str__(self) -> str:
        return " ".join(" ".join(self.said).split())


@pytest.fixture(scope="module")
def made() -> Made:
    return everything()


def page_of(record: StudyRecord, runs: Sequence[MeasuredRun], results: Results, folder: Path) -> str:
    return str(Words(write_report(record, runs, results, folder)))


@pytest.mark.parametrize("width", [80, 120])
def test_table_goes_size_by_size_with_the_selected_first(made: Made, width: int) -> None:
    text = plain(made[0], width)
    assert max(map(cell_len, text.splitlines())) <= width
    small, large = text.index("\n0.5M parameters\n"), text.index("\n1M parameters\n")
    assert small < text.index("rwkv6@0.5M,lr=0.01") < large < text.index("rwkv6@1M,lr=0.01")
    assert large < text.index("b@1M,lr=0.003", large) < text.index("b@1M,lr=0.01", large)
    assert text.count("unigram floor") == 2
    arm = next(arm for arm in made[0].arms if arm.label == "gpt1@1M,lr=0.001")
    assert f"not selected (validation {arm.validation_nats:.3f})" in text
    assert "gpt1, 1 of 4 diverged" in text
    assert "nominally resolved, as seed 3" in " ".join(text.split())


def test_table_shows_speed_and_its_range_and_never_that_of_training(made: Made) -> None:
    text = plain(made[0], 200)
    assert "3.07k tok/s" in text
    assert "1.84k-4.30k" in text
    assert "12.4k" not in text


def test_architecture_stands_under_a_label_that_is_not_its_name() -> None:
    lines = plain(study([run("gpt1", 0), arm_run("slow", 0, learning_rate=1e-4)]), 160).splitlines()
    under = {line.split()[1]: below for line, below in itertools.pairwise(lines) if line.split()[:1] in (["1"], ["2"])}
    assert under["slow"].strip().startswith("gpt1, 1 seed")
    assert under["gpt1"].strip().startswith("1 seed")


def test_page_says_all_of_it(made: Made, tmp_path: Path) -> None:
    words = page_of(*made, tmp_path)
    for said in (
        "Which of rwkv6:head_dim=32, rwkv6, gpt1 and b predicts",
        "At 0.5M parameters, rwkv6:head_dim=32@0.5M,lr=0.01 beats ",
        "not selected (validation",
        "assay compare --config config.yaml --out repeated --plugin 'my mixer.py'",
        "What was added when",
        "2026-11-28T18:00:00Z once seeds 3",
        "2026-11-27T09:00:00Z never measurements speed",
        "tokens/s while training",
        made[1][0].record.spec_digest[:8],
        "at each size",
    ):
        assert said in words
    assert {path.stem for path in (tmp_path / "report").glob("*.svg")} == {
        f"{name}-{size}"
        for name in ("pairs", "loss", "loss-flops", "test", "tuning", "growth", "position", "recall")
        for size in ("0.5M", "1M")
    }


def test_figures_draw_the_chosen_and_show_the_others_as_such(made: Made) -> None:
    figures = study_figures(*made)
    drawn = {row["arm"] for row in csv.DictReader(io.StringIO(figures["loss-1M"].csv()))}
    assert drawn == {"gpt1@1M,lr=0.003", "b@1M,lr=0.003", "rwkv6@1M,lr=0.01", "rwkv6:head_dim=32@1M,lr=0.01"}
    assert "only the chosen point is drawn" in figures["loss-1M"].caption
    kinds = {row["arm"]: row["kind"] for row in csv.DictReader(io.StringIO(figures["test-1M"].csv()))}
    assert (kinds["gpt1@1M,lr=0.003"], kinds["gpt1@1M,lr=0.001"]) == ("arm", "not selected")
    tried = list(csv.DictReader(io.StringIO(figures["tuning-1M"].csv())))
    assert len(tried) == 11, "without the point that has a diverged seed"
    assert {row["arm"] for row in tried if row["selected"] == "yes"} == drawn
    assert figures["loss-1M"].title.endswith("over 4 seeds, 1M parameters")


def test_arms_of_one_architecture_have_colours_of_their_own(made: Made) -> None:
    look = looks(made[0])
    assert look["gpt1@1M,lr=0.003"].colour == look["gpt1@0.5M,lr=0.01"].colour, "one arm, other points"
    assert look["gpt1@1M,lr=0.003"].colour != look["b@1M,lr=0.003"].colour
    many = [arm_run(f"arm{index:02}", 0, None, "gpt1", d_ff=index) for index in range(14)]
    assert len({of.colour for of in looks(study(many)).values()}) == 14
    more = [run(f"other{index:02}", 0) for index in range(9)]
    found = looks(study([*more, *many[:6]]))
    assert len({found[of.record.label].colour for of in many[:6]}) == 6
    assert len({(of.colour, of.shape) for of in found.values()}) == len(found)


def test_lines_end_in_the_names_and_shapes_of_their_arms(made: Made) -> None:
    some = [run(f"arm{index}", 0, 4 + index / 1000) for index in range(9)]
    svg = study_figures(study(some), some, {})["position"].svg()
    root = ElementTree.fromstring(svg)
    symbols = [group for group in root.iter() if "mark-symbol role-mark" in str(group.get("class"))]
    assert len({path.get("d") for group in symbols for path in group}) == 7, "as many as there are"
    places = [float(str(path.get("transform")).split(",")[1][:-1]) for group in symbols for path in group]
    assert min(high - low for low, high in itertools.pairwise(sorted(places))) > 14, "no name lies on another"
    figures = study_figures(*made)
    assert ">rwkv6:head_dim=32</text>" in figures["loss-1M"].svg(), "the arm that was asked for, without size and rate"


def test_runs_that_the_record_does_not_know_are_left_out(tmp_path: Path) -> None:
    some = runs(2, ("gpt1", "rwkv6"))
    record = study(some)
    newer = [*some, run("gpt1", 2, 3.0), run("mamba2", 0, 3.0)]
    write_report(record, some, {}, tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    page = (tmp_path / "report.html").read_bytes()
    write_report(record, newer, {}, tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == before
    assert (tmp_path / "report.html").read_bytes() == page
    assert study_figures(record, newer, {})["loss"].csv() == study_figures(record, some, {})["loss"].csv()


def test_a_study_on_the_validation_split_never_says_test(tmp_path: Path) -> None:
    some = [changed(of, test=None, validation=of.inside["test"]) for of in runs(2, ("gpt1", "rwkv6"))]
    record = study(some, split="validation")
    words = page_of(record, some, {}, tmp_path)
    assert "rwkv6 beats gpt1 by" in words
    assert "of the validation split; the test split was not read" in words
    assert "the test split stays closed" in words
    left = words.replace("the test split was not read", "").replace("the test split stays closed", "")
    assert "test" not in left.replace("documents.test", "")
    assert {path.stem for path in (tmp_path / "report").glob("*.svg")} >= {"validation"}
    text = plain(record, 140)
    assert "validation" in text.split("perplexity")[1]
    assert "95% interval" in text


def test_level_of_the_rule_stands_over_the_columns(tmp_path: Path) -> None:
    some = runs(3, ("gpt1", "rwkv6"))
    record = study(some, rule=Rule(level=0.99), added=[Addition(when="2026-01-02", looks=0, arms=["x"])])
    assert "99% interval" in plain(record, 140)
    assert "95%" not in plain(record, 140)
    words = page_of(record, some, {}, tmp_path)
    assert "the 99% interval over seeds" in words
    assert "Of studies with arms alike a share of at most" in words
    assert "Holm" not in words
    assert "95%" not in words


def test_version_1_is_read_and_drawn(tmp_path: Path) -> None:
    record = StudyRecord.read(FIXTURE / "study.json")
    some = [MeasuredRun.read(path.parent) for path in sorted(FIXTURE.glob("runs/*/record.json"))]
    shutil.copy(FIXTURE / "study.json", tmp_path)
    words = page_of(record, some, {}, tmp_path)
    assert hashlib.sha256((FIXTURE / "study.json").read_bytes()).hexdigest() in words, "of the file as it lies there"
    assert "rwkv6 beats gpt1 by 0.131 ± 0.122 nats per token. That rests on two seeds" in words
    assert "None" not in words.replace("None beats", "")
    assert {path.stem for path in (tmp_path / "report").glob("*.svg")} >= {"loss", "test"}
    assert "2 seeds" in plain(record, 80)
