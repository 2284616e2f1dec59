"""Planned looks: a study stops at the first that resolves every pair, goes on where none does, and is then finished."""

from pathlib import Path

import pytest

from assay.errors import RequestError
from assay.records import StudyRecord
from assay.study.compare import Silent, compare
from study.made_up import Make


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)

    def runs(self) -> list[str]:
        return [line for line in self.lines if line.startswith("run ")]

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        self.lines.append(f"run {name}")


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.study.conclude.write_report", lambda *_: None)


UNLIKE = ("gpt1", "idle=gpt1:lr=1e-7")


def test_it_stops_where_every_pair_is_resolved_and_is_finished_then(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.study.compare.measure_floors", lambda _: {})  # so few steps beat none
    folder, told = tmp_path / "out", Told()
    config = make(UNLIKE, (0, 1, 2, 3, 4), rule={"looks": [3, 5]}, measurements=["likelihood"])
    record = compare(config, folder, told)
    assert [arm.seeds for arm in record.arms] == [[0, 1, 2], [0, 1, 2]]
    assert [pair.resolved for pair in record.pairs] == [True]
    assert "look after 3 seeds: 1 of 1 pair resolved; stopped" in told.lines
    assert len(told.runs()) == 6
    assert any("stopped at the first, as the one pair is resolved." in line for line in record.headline)
    before = (folder / "study.json").read_bytes()
    again = Told()
    assert compare(config, folder, again) == record
    assert again.runs() == []
    assert (folder / "study.json").read_bytes() == before


def test_it_goes_on_where_a_pair_is_open_and_ends_as_without_a_plan(make: Make, tmp_path: Path) -> None:
    told = Told()
    alike = ("gpt1", "again=gpt1:replicate=1")
    planned = compare(make(alike, (0, 1, 2), rule={"looks": [2, 3]}, measurements=["likelihood"]), tmp_path / "a", told)
    assert "look after 2 seeds: 0 of 1 pair resolved; goes on to 3 seeds" in told.lines
    assert not any("look after 3" in line for line in told.lines)
    plain = compare(make(alike, (0, 1, 2), measurements=["likelihood"]), tmp_path / "b")
    assert [arm.scores for arm in planned.arms] == [arm.scores for arm in plain.arms]
    assert planned.pairs[0].difference == plain.pairs[0].difference
    widths = [(record.pairs[0].high or 0) - (record.pairs[0].low or 0) for record in (planned, plain)]
    assert widths[0] > widths[1] > 0
    assert StudyRecord.read(tmp_path / "a" / "study.json") == planned


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"rule": {"looks": [5, 3]}}, "ascending numbers of seeds"),
        ({"rule": {"looks": [1, 3]}}, "ascending numbers of seeds"),
        ({"rule": {"looks": [3, 4]}}, "--looks 3,4: there are 3 seeds; leave --seeds out"),
        ({"rule": {"looks": [2]}}, "--looks 2: there are 3 seeds; .* end the looks with as many"),
        (
            {"rule": {"looks": [2, 3]}, "tuning": {"learning_rates": [1e-3, 1e-2]}},
            "--looks: with a grid of learning rates",
        ),
        ({"rule": {"baseline": "rwkv6"}}, "--baseline rwkv6: no arm of this study; gpt1, idle would do"),
        ({"rule": {"correction": "none"}}, "the intervals of all pairs hold together, so leave it out"),
    ],
)
def test_plans_that_do_not_fit_are_refused_in_one_line(make: Make, asked: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError, match=says) as refused:
        make(UNLIKE, (0, 1, 2), **asked)
    assert "\n" not in str(refused.value)


def test_the_last_look_says_how_many_seeds_there_are(make: Make) -> None:
    values = make(UNLIKE, (0, 1, 2)).model_dump(exclude={"seeds"})
    assert type(make()).parse({**values, "rule": {"looks": [2, 6]}}).seeds == [0, 1, 2, 3, 4, 5]
