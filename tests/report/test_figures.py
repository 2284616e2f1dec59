"""Every figure: valid SVG that says what it shows, its data as CSV, names escaped, little data no problem."""

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

import pytest

from assay.records import Floor, MeasuredFigure
from assay.report.drawing.figure import NARROW, Figure, write
from assay.report.drawing.looks import colours, looks
from assay.report.drawing.series import stretches
from assay.report.drawing.study import study_figures
from report.factory import TOKENS, changed, diverged, run, runs, study

EVIL = "<script>alert(1)</script>"


def texts(svg: str) -> list[str]:
    return [
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    some = runs()
    return study_figures(study(some), some, {})


def test_all_are_drawn(drawn: dict[str, Figure]) -> None:
    assert list(drawn) == ["pairs", "loss", "loss-flops", "test", "position", "growth", "recall"]
    assert all(figure.title.endswith("over 3 seeds") for figure in drawn.values())


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("pairs", {"mamba2over rwkv6", "rwkv6over gpt1", "better by nats per token"}),  # in two lines each
        ("loss-flops", {"training FLOPs (log scale)", "validation nats per token", "5.72T", "3-gram floor 5.210"}),
        ("loss", {"655k", "training tokens (log scale)", "nats per token", "validation", "training"}),
        ("test", {"test nats per token", "unigram floor", "3-gram floor"}),
        ("growth", {"standard deviation (log scale)", "trained", "initial"}),
        ("position", {"position in the context (tokens)", "nats per token more than mamba2"}),
        ("recall", {"test nats per token", "recall tokens", "other tokens"}),
    ],
)
def test_svg_is_wellformed_titled_labelled_and_of_the_width_asked(
    drawn: dict[str, Figure], name: str, axes: set[str]
) -> None:
    svg = drawn[name].svg(NARROW)
    found = texts(svg)
    assert drawn[name].title.replace(" ", "") in "".join(found).replace(" ", ""), "over two lines where it is narrow"
    assert axes | (set() if name == "pairs" else {"gpt1", "mamba2", "rwkv6"}) <= set(found)
    assert ElementTree.fromstring(svg).get("width") == str(NARROW)
    assert 'font-family="sans-serif"' in svg
    assert all(colour in svg for colour in ("#0072B2", "#D55E00", "#009E73")[name == "pairs" :])


def test_written_files_are_the_figure_and_its_data(drawn: dict[str, Figure], tmp_path: Path) -> None:
    paths = write(drawn["growth"], tmp_path, "growth")
    assert [path.name for path in paths] == ["growth.svg", "growth.csv"]
    rows = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    assert len(rows) == 2 * (7 + 7 + 13), "two moments; the embedding and 6, 6 and 12 blocks"
    assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in rows)
    assert {row["seeds"] for row in rows} == {"3"}


def test_the_main_figure_is_of_the_pairs_of_the_record() -> None:
    """In favour of the first, so with the sign turned; a dot for each seed that both finished."""
    some = runs(3)
    record = study(some)
    rows = list(csv.DictReader(io.StringIO(study_figures(record, some, {})["pairs"].csv())))
    for pair in record.pairs:
        (whole,) = (row for row in rows if row["kind"] != "seed" and (row["better"], row["other"]) == (pair.a, pair.b))
        ends = [float(whole[end]) for end in ("difference", "low", "high", "text_low", "text_high")]
        expected = [pair.difference, pair.high, pair.low, pair.text_high, pair.text_low]
        assert ends == [-float(end or 0.0) for end in expected]
        assert whole["kind"] == ("resolved" if pair.resolved else "open")
        seeds = [row for row in rows if row["kind"] == "seed" and (row["better"], row["other"]) == (pair.a, pair.b)]
        assert [row["seed"] for row in seeds] == ["0", "1", "2"]
        assert sum(float(row["difference"]) for row in seeds) / 3 == pytest.approx(-pair.difference)


def test_positions_are_differences_to_the_best() -> None:
    rows = list(csv.DictReader(io.StringIO(study_figures(study(some := runs(2)), some, {})["position"].csv())))
    assert {float(row["mean"]) for row in rows if row["arm"] == "mamba2"} == {0.0}
    assert all(float(row["mean"]) > 0.2 for row in rows if row["arm"] == "gpt1")


def test_far_floors_do_not_press_the_lines_flat() -> None:
    far = {"unigram": Floor(nats_per_token=60.0, perplexity=1e26, bits_per_byte=None)}
    figure = study_figures(study(some := runs(1), changes={"floors": far}), some, {})["loss"]
    assert "Outside: unigram floor 60.000." in figure.caption
    assert "unigram" not in figure.svg()


def test_names_are_escaped() -> None:
    some = [run(EVIL, 0), run('a"&b', 0)]
    svg = study_figures(study(some), some, {})["test"].svg()
    assert "<script" not in svg
    assert {EVIL, 'a"&b'} <= set(texts(svg))


def test_a_colour_belongs_to_a_name_whatever_the_rank() -> None:
    some = [run("gpt1", 0, 4.0), run("rwkv6", 0, 4.5)]
    other = [run("gpt1", 0, 4.5), run("rwkv6", 0, 4.0)]
    scales = [colours(looks(study(these)), ["gpt1", "rwkv6"]) for these in (some, other)]
    assert scales[0].to_dict() == scales[1].to_dict() == {"domain": ["gpt1", "rwkv6"], "range": ["#0072B2", "#D55E00"]}


def test_single_seeds_diverged_runs_and_missing_measurements() -> None:
    bare = run("gpt1", 0, validation_curve=[], signals_initial=None, signals_trained=None)
    no_recall = {**bare.inside["test"], "recall_nats": None, "other_nats": None, "nats_by_position": []}
    some = [changed(bare, test=no_recall), diverged("rwkv6", 0)]
    drawn = study_figures(study(some), some, {})
    assert list(drawn) == ["loss", "test"]
    assert drawn["loss"].title == "Loss against training tokens, one seed"
    assert "rwkv6" not in drawn["loss"].csv(), "diverged runs are left out of the means"
    assert "One seed gives no interval" in drawn["test"].caption
    ElementTree.fromstring(drawn["loss"].svg())


def test_figures_of_one_name_are_not_one_figure() -> None:
    some = [run("gpt1", 0), run("gpt1", 1), run("rwkv6", 0), run("rwkv6", 1)]
    signals = some[0].results["signals"]
    for one in some:
        own = one.results["signals"]
        again = own.model_copy(
            update={
                "measurement": "mine",
                "figures": [
                    *(figure.model_copy(update={"title": "Mine", "points": figure.points}) for figure in own.figures),
                    *(figure.model_copy(update={"name": "loss"}) for figure in own.figures),
                ],
            }
        )
        one.results["mine"] = again  # type: ignore[index]
    (name,) = {figure.name for figure in signals.figures}
    drawn = study_figures(study(some), some, {})
    assert {f"signals-{name}", f"mine-{name}", "mine-loss", "loss"} <= set(drawn)
    assert name not in drawn
    assert drawn["loss"].title.startswith("Loss against")
    assert drawn[f"mine-{name}"].title.startswith("Mine, over 2 seeds")


def test_nothing_to_draw_draws_nothing() -> None:
    assert study_figures(study([diverged("rwkv6", 0)]), [diverged("rwkv6", 0)], {}) == {}


def test_stretches_average_without_losing_a_point() -> None:
    curve = run("gpt1", 0).record.training_curve
    few = list(stretches(curve, [1, 10_000, 100_000, TOKENS]))
    assert len(few) == 3
    early = [point for point in curve if point.tokens <= 10_000]
    assert few[0][0] == pytest.approx(sum(point.tokens for point in early) / len(early))
    assert few[0][1] == pytest.approx(sum(point.nats_per_token for point in early) / len(early))


def test_figures_of_one_name_are_told_apart_and_none_takes_a_studys_own_place() -> None:
    """A measurement's figure called "growth", or "loss", stands beside that of another measurement or of the study."""
    some = runs(2, ("gpt1", "rwkv6"))
    (growth,) = (figure for figure in some[0].results["signals"].figures if figure.name == "growth")
    made = []
    for one in some:
        mine = one.results["recall"].model_copy(
            update={
                "measurement": "mine",
                "figures": [
                    growth.model_copy(update={"unit": "bytes"}),
                    growth.model_copy(update={"name": "loss", "unit": "bytes"}),
                ],
            }
        )
        made.append(one.with_results([mine]))
    figures = study_figures(study(made), made, {})
    assert {"mine-growth", "signals-growth", "loss", "mine-loss"} <= figures.keys()
    assert {row["unit"] for row in figures["signals-growth"].rows} == {growth.unit}
    assert {row["unit"] for row in figures["mine-growth"].rows} == {"bytes"}


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a b", ""])
def test_a_figures_name_is_no_path(name: str) -> None:
    """It names files, and results are passed around as data."""
    (figure, *_) = runs(1)[0].results["signals"].figures
    with pytest.raises(ValueError, match="name"):
        MeasuredFigure.model_validate({**figure.model_dump(), "name": name})
