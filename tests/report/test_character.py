"""The section Character of a study's page, and the figures that it shows: bars with intervals, marks, differences."""

import pytest

from analysis.character.made_up import context, contribution, result, signals, state
from assay.analysis.statistics import mean_interval
from assay.records import FigurePoint, MeasuredFigure, MeasuredRun, MeasurementResult
from assay.report.character import sections
from assay.report.drawing.study import study_figures
from assay.report.page import write_report
from report.factory import run, study

NAMES = ("<b>rwkv6</b>", "mamba2")


def parts(nats: float) -> MeasuredFigure:
    points = [FigurePoint(x=at, y=nats, low=nats - 0.01, high=nats + 0.01, series="mixer") for at in (0, 1)]
    return MeasuredFigure(
        name="contribution", title="What each part contributes", caption="Nats <i>per</i> token.", kind="bars",
        y_title="nats per token", unit="nats_per_token", x_called="block", x_names={"0": "0", "1": "1"},
        series=["mixer"], series_called="part", points=points,
    )  # fmt: skip


def survival(half_life: float) -> MeasuredFigure:
    return MeasuredFigure(
        name="survival", title="What is left", caption="Left.", kind="lines", y_title="share", unit="share",
        x_called="tokens", x_scale="log", y_rules={"half": 0.5}, x_rules={"trained on": 4.0},
        spots=[FigurePoint(x=half_life, y=0.5)],
        points=[FigurePoint(x=x, y=0.5 ** (x / half_life)) for x in (1.0, 4.0, 16.0)],
    )  # fmt: skip


def inside(growth: float, half_life: float, nats: float) -> list[MeasurementResult]:
    of = contribution(nats, nats / 2)
    return [
        signals(growth),
        result("state", dict(state(half_life).values), figures=[survival(half_life)]),
        result("contribution", dict(of.values), figures=[parts(nats)]),
        context(0.0, lacks="the data are <b>a</b> task"),
    ]


@pytest.fixture(scope="module")
def measured() -> list[MeasuredRun]:
    architectures = dict(zip(NAMES, ("rwkv6", "mamba2"), strict=True))
    numbers = {NAMES[0]: (1.2, 30.0, 0.3), NAMES[1]: (3.0, 6.0, 0.9)}
    return [
        run(name, seed, architecture=architectures[name]).with_results(
            inside(*(value * (1 + 0.001 * seed) for value in numbers[name]))
        )
        for name in NAMES
        for seed in (0, 1, 2)
    ]


@pytest.fixture(scope="module")
def page(measured: list[MeasuredRun], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("character")
    return write_report(study(measured), measured, {}, folder).read_text("utf-8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words",
    [
        "Which one amplifies?",
        "mamba2 grows most (3x)",
        "forgets half of a change to its state within 30",
        "its mixers matter more than its MLPs",
        "not measured: the data are &lt;b&gt;a&lt;/b&gt; task.",
        "In words",
        "Which two to fuse",
        "one of them amplifies (growth above 1.5x) and the other does not",
        "RWKV-6 alone amplifies",
        "does not hold",
    ],
)
def test_page_answers_in_words(page: str, words: str) -> None:
    section = page[page.index('<h2 id="character">') : page.index("</section>", page.index('<h2 id="character">'))]
    assert words.lower() in section.lower()


def test_figures_stand_with_their_questions_and_names_are_escaped(page: str) -> None:
    assert page.count('href="report/survival.svg"') == page.count('href="report/contribution.svg"') == 1
    assert page.index("report/survival.svg") < page.index('id="figures"')
    assert "<b>rwkv6" not in page
    assert "<i>per" not in page


def test_without_such_measurements_there_is_no_section() -> None:
    runs = [run("gpt1", 0)]
    assert sections(study(runs), runs, []) == []


def test_bars_have_intervals_over_seeds_and_of_one_seed_its_own(measured: list[MeasuredRun]) -> None:
    rows = study_figures(study(measured), measured, {})["contribution"].rows  # type: ignore[arg-type]
    of = [row for row in rows if row["arm"] == "mamba2" and row["block"] == 0]
    found = mean_interval([0.9 * (1 + 0.001 * seed) for seed in range(3)])
    assert [(row["low"], row["high"]) for row in of] == [(found.low, found.high)]
    one = [of for of in measured if of.record.seed == 0]
    rows = study_figures(study(one), one, {})["contribution"].rows  # type: ignore[arg-type]
    assert {row["arm"]: row["low"] for row in rows} == {"mamba2": pytest.approx(0.89), NAMES[0]: pytest.approx(0.29)}


def test_lines_show_half_and_the_training_length(measured: list[MeasuredRun]) -> None:
    svg = study_figures(study(measured), measured, {})["survival"].svg()  # type: ignore[arg-type]
    assert ">half<" in svg
    assert ">trained on<" in svg


def test_positions_have_paired_intervals(measured: list[MeasuredRun]) -> None:
    record = study(measured)  # type: ignore[arg-type]
    rows = study_figures(record, measured, {})["position"].rows
    other = record.arms[1].label
    differences = [
        scores[other].nats_by_position[0] - scores[record.arms[0].label].nats_by_position[0]
        for seed in range(3)
        for scores in [{of.record.label: of.scores for of in measured if of.record.seed == seed}]
    ]
    found = mean_interval(differences)
    (first, *_) = [row for row in rows if row["arm"] == other]
    assert (first["low"], first["high"]) == (pytest.approx(found.low), pytest.approx(found.high))
