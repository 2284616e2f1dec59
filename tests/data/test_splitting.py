"""No text on both sides of a split: duplicates, near-duplicates, shares, order, official splits."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from assay.data.corpus import SPLITS, Document, silent
from assay.data.text.splitting import SHARE, SplitDocuments, split_documents
from assay.errors import RequestError

RANDOM_SEED = 20


def words(generator: np.random.Generator, count: int) -> str:
    return " ".join(f"w{number}" for number in generator.integers(0, 5_000, count))


def sizes(split: SplitDocuments) -> dict[str, int]:
    return {name: sum(len(each.text.encode()) for each in split.split(name)) for name in SPLITS}


@pytest.mark.parametrize("seed", range(3))
def test_every_document_once_in_order_and_a_tenth_each(seed: int) -> None:
    generator = np.random.default_rng(seed)
    documents = [Document(f"d{n}", words(generator, int(generator.integers(20, 200)))) for n in range(100)]
    documents += [replace(each, name=f"{each.name} again", text=f"  {each.text}\n") for each in documents[:7]]
    documents += [replace(each, name=f"{each.name} nearly", text=f"{each.text} end") for each in documents[:9]]
    split = split_documents("x", documents, silent)
    assert (split.duplicates_dropped, split.near_duplicate_clusters, split.official) == (7, 9, False)
    found = {name: [each.name for each in split.split(name)] for name in SPLITS}
    kept = [each.name for each in documents if not each.name.endswith("again")]
    assert sorted(itertools.chain(*found.values())) == sorted(kept)
    for names in found.values():
        assert names == [name for name in kept if name in set(names)]
        assert {f"{name} nearly" for name in names if name in {f"d{n}" for n in range(9)}} <= set(names)
    total = sum(sizes(split).values())
    for name in ("validation", "test"):
        assert SHARE * total <= sizes(split)[name] < SHARE * total + 3_000


def test_the_split_depends_on_the_text_alone() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    documents = [Document(f"d{n}", words(generator, 50)) for n in range(40)]
    one = split_documents("x", documents, silent)
    other = split_documents("x", [replace(each, name=f"renamed {each.name}") for each in documents[::-1]], silent)
    for name in SPLITS:
        assert {each.text for each in one.split(name)} == {each.text for each in other.split(name)}


def test_three_documents_make_three_splits_whatever_their_sizes() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    lines: list[str] = []
    documents = [Document("short", "a"), Document("long", words(generator, 5_000)), Document("other", "b")]
    split = split_documents("x", documents, lines.append)
    assert [len(split.split(name)) for name in SPLITS] == [1, 1, 1]
    assert split.train[0].name == "long"
    assert lines == [
        f"{name} holds less than a tenth of the bytes: the documents are few and unequal"
        for name in ("validation", "test")
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a"], "1 document; train"),
        (["a", "b"], "2 documents; train"),
        (["a", "b", " a\n", "b"], "4 documents, of which 2 differ"),
        (["\n", " ", "a"], "3 documents, of which 1 differ"),
    ],
)
def test_too_few_documents_are_counted_and_told_what_would_do(texts: list[str], expected: str) -> None:
    with pytest.raises(RequestError) as caught:
        split_documents("text:x", [Document(str(n), text) for n, text in enumerate(texts)], silent)
    assert str(caught.value).startswith(f"--corpus text:x: {expected}")
    assert "a longer text" in str(caught.value)


def test_official_splits_stay_and_train_loses_what_they_hold() -> None:
    documents = [
        Document("t1", "one", "train"),
        Document("t2", "two ", "train"),
        Document("v1", "two", "validation"),
        Document("v2", "three", "validation"),
        Document("e1", "three", "test"),
        Document("t3", "one", "train"),
    ]
    split = split_documents("x", documents, silent)
    assert [[each.name for each in split.split(name)] for name in SPLITS] == [["t1"], ["v1", "v2"], ["e1"]]
    assert (split.duplicates_dropped, split.official) == (2, True)
    with pytest.raises(RequestError, match="the train split of its 2 documents is empty"):
        split_documents("x", documents[3:5], silent)


def test_a_missing_official_split_is_made_from_train() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    train = [Document(f"t{n}", words(generator, 50), "train") for n in range(50)]
    split = split_documents("x", [*train, Document("v", "validation", "validation")], silent)
    assert [each.name for each in split.validation] == ["v"]
    assert len(split.train) + len(split.test) == 50
    assert sizes(split)["test"] >= SHARE * sum(len(each.text) for each in train)


def test_by_position_the_end_is_held_out() -> None:
    """Training text is the head of the corpus as it stands, validation comes next, test last; a tenth each."""
    generator = np.random.default_rng(3)
    documents = [Document(f"d{index:02}", words(generator, 200)) for index in range(40)]
    split = split_documents("made up", documents, silent, "position")
    names = [each.name for name in SPLITS for each in split.split(name)]
    assert names == sorted(names)
    held_out = sizes(split)
    assert min(held_out["validation"], held_out["test"]) >= SHARE * sum(held_out.values())
    assert held_out["train"] > 0.7 * sum(held_out.values())


def test_a_cluster_of_much_of_the_text_is_told_of() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    copied = words(generator, 300)
    documents = [Document(f"copy{n}", f"{copied} {n}") for n in range(20)]
    documents += [Document(f"d{n}", words(generator, 300)) for n in range(20)]
    lines: list[str] = []
    split = split_documents("x", documents, lines.append)
    assert {each.name for each in split.train} >= {f"copy{n}" for n in range(20)}
    [line] = lines
    assert line.startswith("20 documents, 50% of the bytes, are near-duplicates")
    lines.clear()
    split_documents("x", documents[19:], lines.append)
    assert lines == []


def test_near_duplicates_and_what_they_belong_to_are_of_one_source() -> None:
    words = [f"word{number}" for number in range(600)]
    one, other = " ".join(words[:200]), " ".join([*words[:199], "changed"])
    documents = [
        Document("a/1", one, source="a"),
        Document("a/2", " ".join(words[200:300]), source="a"),
        Document("b", other),
        Document("c", " ".join(words[300:400])),
        Document("c", " ".join(words[400:500])),
    ]
    split = split_documents("test", documents, silent)
    found = {each.text[:12] + each.name: each.source for name in SPLITS for each in split.split(name)}
    by_name = {each.name: each.source for name in SPLITS for each in split.split(name)}
    assert by_name["a/1"] == by_name["a/2"] == by_name["b"]
    assert len(set(found.values())) == 3, "documents of one name are not of one source"
