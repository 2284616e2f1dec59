"""The page: complete, self-contained, escaped, the same bytes every time, written whole."""

import base64
import hashlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from assay.errors import RequestError
from assay.report import page as page_module
from assay.report.page import write_report
from report.factory import changed, diverged, run, runs, study

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags, ids, links, and the text outside styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.words = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            elif key in {"href", "src", "xlink:href"}:
                self.links.append(value or "")
            elif key.startswith("on"):
                self.handlers.append(key)

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["style"], ["script"]):
            self.words += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a hostile name, a diverged seed and a hostile environment."""
    some = [*runs(2, ("gpt1", "mamba2")), run(EVIL, 0, 4.2), run(EVIL, 1, 4.25), run("rwkv6", 0), diverged("rwkv6", 1)]
    folder = tmp_path_factory.mktemp("report")
    write_report(study(some, changes={"environment": {"python": "3.11", EVIL: EVIL}}), some, {}, folder)
    return folder


def test_page_needs_nothing_but_its_own_figures(folder: Path) -> None:
    page = Page(folder / "report.html")
    assert page.tags.count("script") == 1, "the one that copies a table"
    text = (folder / "report.html").read_text(encoding="utf-8")
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\"" in text, "and no other may run"
    assert page.handlers == []
    assert len(set(page.ids)) == len(page.ids)
    files = [link for link in page.links if not link.startswith("data:")]
    assert len(files) == 16
    assert [link for link in files if not (folder / link).is_file()] == []
    assert sorted(path.name for path in folder.iterdir()) == ["report", "report.html"]
    assert text.replace("http://www.w3.org/", "").count("http") == 1, "only the name of the policy header"
    assert page.tags.count("svg") == 14, "seven figures, each for a desk and for a telephone"


def test_names_are_escaped_everywhere(folder: Path) -> None:
    page = Page(folder / "report.html")
    assert page.words.count(EVIL) >= 10
    assert all("<script" not in path.read_text() for path in (folder / "report").glob("*.svg"))


WORDS = """Which of; beats; this ranks early learning; 1 of 2 diverged; 95% interval; unigram; 3-gram;
Of studies with arms alike; other seeds and other texts; Loss against training tokens, over 1 to 2 seeds;
consumed the same batches; training.context; bpe:4096; within 0.00% of their mean; assay compare --config config.yaml"""


@pytest.mark.parametrize("words", WORDS.replace("\n", " ").split("; "))
def test_page_says(folder: Path, words: str) -> None:
    assert words in " ".join(Page(folder / "report.html").words.split())


def test_same_records_give_the_same_bytes_over_an_old_report(tmp_path: Path) -> None:
    some = [run("gpt1", 0), run("rwkv6", 0)]
    first = write_report(study(some), [], {}, tmp_path).read_bytes()
    (tmp_path / "report" / "left-over.svg").write_text("of an older study")
    again = write_report(study(some), [], {}, tmp_path)
    assert again.read_bytes() == first
    assert not (tmp_path / "report" / "left-over.svg").exists()


def test_a_failure_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = [diverged("gpt1", 0)]
    old = write_report(study(some), some, {}, tmp_path).read_bytes()
    assert b"every arm has a diverged seed" in old

    def fail(*_: object) -> str:
        raise RuntimeError

    monkeypatch.setattr(page_module, "_render", fail)
    with pytest.raises(RuntimeError):
        write_report(study(runs(1)), [], {}, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "report.html"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"the report cannot be written to .*missing: No such file"):
        write_report(study([diverged("gpt1", 0)]), [], {}, tmp_path / "missing")


def test_a_study_without_ranking_says_why_first(tmp_path: Path) -> None:
    some = runs(1, ("gpt1", "rwkv6"))
    some[0] = changed(some[0], data_chain="f" * 64)
    words = " ".join(Page(write_report(study(some), [], {}, tmp_path)).words.split())
    assert "No ranking: with seed 0, rwkv6 saw other batches than gpt1." in words
    assert "No: the batches differ" in words
