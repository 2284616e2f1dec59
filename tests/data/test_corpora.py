"""The corpora by name: what stdlib leaves out, and the hub behind a stand-in."""

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from assay.data.config import DataConfig
from assay.data.corpora import stdlib
from assay.data.corpora.hub import join_articles
from assay.data.corpus import CORPORA, find_corpus, read_documents, silent
from assay.data.text.prepare import prepare
from assay.errors import RequestError


def test_stdlib_is_some_megabytes_of_source_in_order_and_leaves_out_what_is_no_text() -> None:
    documents = read_documents(DataConfig(), silent)
    names = [each.name for each in documents]
    assert names == sorted(names)
    assert {"argparse.py", "json/decoder.py"} <= set(names)
    sources = {each.name: each.source for each in documents}
    assert sources["json/decoder.py"] == sources["json/encoder.py"] == "json"
    assert sources["argparse.py"] == "argparse.py"
    folders = {part for name in names for part in name.split("/")[:-1]}
    assert not folders & stdlib.LEFT_OUT
    assert not any(name.startswith("_sysconfigdata") for name in names)
    assert 5e6 < sum(len(each.text.encode()) for each in documents) < 30e6
    assert not any("\r" in each.text for each in documents if each.name == "argparse.py")


def test_stdlib_without_sources_says_what_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(RequestError, match="--corpus text:PATH"):
        read_documents(DataConfig(), silent)


def test_max_bytes_takes_whole_documents_in_order() -> None:
    everything = read_documents(DataConfig(), silent)
    some = read_documents(DataConfig(max_bytes=200_000), silent)
    assert some == everything[: len(some)]
    size = sum(len(each.text.encode()) for each in everything[: len(some) + 1])
    assert size > 200_000 >= size - len(everything[len(some)].text.encode())
    with pytest.raises(RequestError, match="--max-bytes 1: the first document is longer"):
        read_documents(DataConfig(max_bytes=1), silent)


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ("stdlb", "did you mean 'stdlib'"),
        ("stdlib:x", "takes nothing after the colon"),
        ("text", "text:PATH would do"),
        ("text:", "text:PATH would do"),
        (__file__, f"--corpus text:{__file__} reads it"),
    ],
)
def test_a_corpus_that_is_none_gets_one_line(corpus: str, expected: str) -> None:
    with pytest.raises(RequestError) as caught:
        find_corpus(DataConfig(corpus=corpus))
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"--corpus {corpus}")


@pytest.mark.parametrize("name", CORPORA.names())
def test_every_corpus_says_what_it_is(name: str) -> None:
    source = CORPORA.get(name)
    assert source.name == name
    assert source.description
    assert source.citation


class FakeHub(ModuleType):
    """Stands for the package `datasets`: the rows it would stream, and how often it was asked."""

    def __init__(self, rows: dict[str, list[str]]) -> None:
        super().__init__("datasets")
        self.rows = rows
        self.calls: list[tuple[str, str | None, str, bool]] = []

    def load_dataset(self, path: str, name: str | None, split: str, streaming: bool) -> Iterator[dict[str, str]]:
        self.calls.append((path, name, split, streaming))
        if split not in self.rows:
            raise ConnectionError("no route\nto host")
        return ({"text": text} for text in self.rows[split])


def article(number: int) -> list[str]:
    return [
        f" = Title {number} = \n",
        "",
        f" words of article {number} \n",
        " = = Section = = \n",
        f" more {number} \n",
    ]


def test_wikitext_joins_lines_into_articles_and_keeps_the_official_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"train": ["", *article(1), *article(2), *article(9)], "validation": article(3), "test": article(9)}
    hub = FakeHub(rows)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    config = DataConfig(corpus="wikitext-2", tokenizer="bytes")
    corpus = prepare(config)
    text = [corpus.tokenizer.decode(split.ids.tolist()) for split in (corpus.train, corpus.validation, corpus.test)]
    assert text == ["".join(article(1) + article(2)), "".join(article(3)), "".join(article(9))]
    assert len(corpus.train.names) == 2
    assert corpus.summary()["duplicates_dropped"] == 1
    assert corpus.summary()["official_splits"]
    assert hub.calls[0] == ("Salesforce/wikitext", "wikitext-2-raw-v1", "validation", True)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert prepare(config).digest == corpus.digest, "a cached corpus needs neither the package nor the network"


def test_tinystories_makes_its_test_from_train_and_max_bytes_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stories = [" ".join(f"word{number}x{place}" for place in range(10)) for number in range(400)]
    monkeypatch.setitem(sys.modules, "datasets", FakeHub({"train": stories, "validation": stories[300:]}))
    corpus = prepare(DataConfig(corpus="tinystories", tokenizer="bytes", max_bytes=20_000))
    sizes = {name: counts["bytes"] for name, counts in corpus.summary()["splits"].items()}
    assert 1_800 < sizes["validation"] <= 2_000
    assert 16_000 < sizes["train"] + sizes["test"] <= 18_000
    assert not set(corpus.test.names) & set(corpus.train.names)
    assert all(name.startswith("train:") for name in corpus.test.names)


def test_the_hub_without_package_or_network_says_what_works_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, expected in ((None, "-m pip install 'datasets<"), (FakeHub({}), "ConnectionError: no route")):
        monkeypatch.setitem(sys.modules, "datasets", module)
        with pytest.raises(RequestError) as caught:
            read_documents(DataConfig(corpus="wikitext-103"), silent)
        assert expected in str(caught.value)
        assert "--corpus stdlib or --corpus text:PATH works without" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_only_top_level_headings_begin_an_article() -> None:
    lines = [
        "\n",
        " = A = \n",
        " = = B = = \n",
        " = = = C = = = \n",
        " x = y \n",
        " = = D = 3 = = \n",
        " = E : 1 = 2 = \n",
    ]
    assert list(join_articles(lines)) == ["".join(lines[:6]), lines[6]]


@pytest.mark.parametrize(("name", "part"), [("manual", "identifier"), ("headers", "namespace c10")])
def test_texts_of_the_machine_are_many_documents_and_the_same_each_time(name: str, part: str) -> None:
    documents, again = (read_documents(DataConfig(corpus=name), silent) for _ in range(2))
    assert documents == again
    assert len(documents) > 50
    assert sum(len(document.text) for document in documents) > 100_000
    assert any(part in document.text for document in documents)
