"""report.html while a study is at work, its date, and the samples that it ends with."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from assay.records import StudyRecord
from assay.records.samples import Samples, read_samples
from assay.study.compare import Silent, compare
from study.made_up import Make


class Reader(Silent):
    """Reads the page whenever a run begins."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.pages: list[str] = []

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        self.pages.append(self.page.read_text(encoding="utf-8") if self.page.exists() else "")


def test_the_page_counts_runs_and_loads_itself_again_until_the_study_is_finished(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "out" / "report.html"
    reader = Reader(page)
    with monkeypatch.context() as patch:
        patch.setattr("assay.study.conclude.write_report", lambda *_: page.write_text("finished"))
        record = compare(make(("gpt1", "rwkv6"), (0, 1), measurements=[]), tmp_path / "out", reader, workers=1)
    assert [f"{done} of 4 runs" in text for done, text in enumerate(reader.pages)] == [False, True, True, True]
    assert all('http-equiv="refresh"' in text and "<script" not in text for text in reader.pages[1:])
    assert "nats/token" in reader.pages[1], "the score of the run that has ended"
    assert page.read_text() == "finished"
    assert datetime.fromisoformat(record.concluded).date() <= datetime.now(UTC).date()
    assert record.concluded == StudyRecord.read(tmp_path / "out" / "study.json").concluded

    samples = read_samples(tmp_path / "out")
    assert isinstance(samples, Samples)
    assert samples.texts.keys() == {"gpt1", "rwkv6"}
    assert all(text and not text.startswith("[nothing") for text in samples.texts.values())

    growing = Reader(page)
    with monkeypatch.context() as patch:
        patch.setattr("assay.study.conclude.write_report", lambda *_: page.write_text("grown"))
        compare(make(("gpt1", "rwkv6"), (0, 1, 2), measurements=[]), tmp_path / "out", growing, workers=1)
    assert set(growing.pages) == {"finished"}, "a finished study keeps its page until there is another"
    assert page.read_text() == "grown"
