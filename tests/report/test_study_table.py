"""The terminal's table at several widths: nothing cut, nothing missing, markup in names shown as it is."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from assay.records import StudyRecord
from assay.report.table import plain, study_table
from report.factory import diverged, run, runs, study

NUMBERS = ["4.723", "4.715-4.731", "112.5", "111.6-113.4", "1.975", "1.972-1.978", "1,808x", "1.02M", "406k"]
NUMBERS += ["2.91 MFLOP", "48.0 kB", "590 kB", "412 MB", "5.210", "183.1", "2.180", "6.310", "amplifier"]


@pytest.mark.parametrize("width", [50, 80, 100, 140, 200])
def test_no_number_is_cut_at_any_width(width: int) -> None:
    text = plain(study(runs()), width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert [number for number in NUMBERS if number not in text] == []
    assert "…" not in text
    for sentence in ("this ranks early learning", "one learning rate, untuned", "all 3 pairs hold together"):
        assert sentence in " ".join(text.split())


def test_a_wide_window_takes_one_table_and_a_narrow_one_several() -> None:
    record = study(runs())
    assert plain(record, 170).count("arm  ") == 1
    assert plain(record, 80).count("arm  ") == 3


def test_rows_are_the_arms_best_first_then_the_floors() -> None:
    first = [line.split()[:2] for line in plain(study(runs()), 170).splitlines()]
    rows = [words for words in first if len(words) == 2 and words[1] in {"mamba2", "rwkv6", "gpt1", "floor"}]
    assert rows == [["1", "mamba2"], ["2", "rwkv6"], ["3", "gpt1"], ["unigram", "floor"], ["3-gram", "floor"]]


def test_diverged_one_seed_and_unmeasured() -> None:
    text = plain(study([run("gpt1", 0, peak_memory_bytes=None, output_health=None), diverged("rwkv6", 0)]), 140)
    assert "1 of 1 diverged" in text
    assert "1 seed" in text
    assert "not measured" in text
    assert "None" not in text


def test_long_names_fold_and_markup_is_text() -> None:
    name = "[bold]a-name-that-is-far-longer-than-its-column-should-be[/bold]"
    text = plain(study([run(name, 0), run("gpt1", 0)]), 80)
    assert name[:32] in text
    assert max(map(cell_len, text.splitlines())) <= 80


def test_colours_in_a_terminal_change_no_character() -> None:
    record: StudyRecord = study(runs())
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(study_table(record))
    assert "\x1b[" in capture.get()
    assert "4.715-4.731" in capture.get()
