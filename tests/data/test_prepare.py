"""The cache: the same corpus again without the work, whole or absent, rebuilt when it does not match."""

import errno
import itertools
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from assay.data.config import DataConfig
from assay.data.corpus import SPLITS, Document, silent
from assay.data.scoring import scoring_windows
from assay.data.text import cache
from assay.data.text import prepare as module
from assay.data.text.prepare import TokenizedCorpus, prepare
from assay.data.text.reading.textfile import Tally, file_documents
from assay.data.text.splitting import split_documents
from assay.data.text.tokenized import id_dtype, tokenize
from assay.data.text.tokenizer import build_tokenizer
from assay.errors import RequestError

STORY = "Once there was {who} who said: \u00e9t\u00e9, {number}!\r\n"


def write_text(folder: Path, documents: int = 40) -> Path:
    animals = ("fox", "crane", "mole", "owl", "hare", "newt")
    stories = [STORY.format(number=n, who=" ".join(f"{each}{n}" for each in animals)) for n in range(documents)]
    lines = "".join(story * (n % 5 + 1) + "<|endoftext|>\n" for n, story in enumerate(stories))
    path = folder / "stories.txt"
    path.write_bytes(lines.encode())
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def config(folder: Path) -> DataConfig:
    return DataConfig(corpus=f"text:{write_text(folder)}", tokenizer="bpe:270")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time a corpus is really made."""
    made: list[str] = []
    real = build_tokenizer

    def counting(spec: str, texts: list[str]) -> Any:
        made.append(spec)
        return real(spec, texts)

    monkeypatch.setattr(module, "build_tokenizer", counting)
    return made


def cached_folders(folder: Path) -> list[Path]:
    return [each for each in (folder / "cache").iterdir() if not each.name.endswith(".lock")]


def same(one: TokenizedCorpus, other: TokenizedCorpus) -> bool:
    arrays = all(
        np.array_equal(getattr(one.split(name), part), getattr(other.split(name), part))
        for name in SPLITS
        for part in ("ids", "starts", "document_bytes", "names")
    )
    return arrays and one.summary() == other.summary()


@pytest.mark.parametrize("tokenizer", ["bpe:270", "bytes"])
def test_every_document_stands_between_its_ends_and_comes_back(tokenizer: str, config: DataConfig) -> None:
    corpus = prepare(DataConfig(corpus=config.corpus, tokenizer=tokenizer))
    path = Path(config.corpus.removeprefix("text:"))
    expected = split_documents("x", list(file_documents(path, path.name, "text", alone=True, tally=Tally())), silent)
    for name in SPLITS:
        split, documents = corpus.split(name), expected.split(name)
        assert split.names == [each.name for each in documents]
        assert split.document_bytes.tolist() == [len(each.text.encode()) for each in documents]
        for number, document in enumerate(documents):
            ids = split.ids[split.starts[number] : split.starts[number + 1]].tolist()
            assert (ids[0], ids[-1]) == (corpus.tokenizer.bos, corpus.tokenizer.eos)
            assert corpus.tokenizer.decode(ids[1:-1]) == document.text
    assert corpus.invertible
    assert corpus.train.ids.dtype == np.uint16


def test_the_second_time_it_is_read_from_a_memory_map(config: DataConfig, builds: list[str]) -> None:
    lines: list[str] = []
    first = prepare(config, lines.append)
    assert any("encoding" in line for line in lines)
    lines.clear()
    again = prepare(config, lines.append)
    assert lines == []
    assert builds == ["bpe:270"]
    assert same(first, again)
    assert isinstance(again.train.ids, np.memmap)
    assert not again.train.ids.flags.writeable


def test_other_text_tokenizer_or_cap_is_another_corpus(config: DataConfig, folder: Path, builds: list[str]) -> None:
    digests = {prepare(config).digest}
    for change in ({"tokenizer": "bpe:271"}, {"tokenizer": "bytes"}, {"max_bytes": 1_500}):
        digests.add(prepare(DataConfig(**{**config.model_dump(), **change})).digest)
    write_text(folder, documents=41)
    digests.add(prepare(config).digest)
    assert len(digests) == len(builds) == len(cached_folders(folder)) == 5


def test_the_same_text_elsewhere_is_the_same_corpus(config: DataConfig, folder: Path, builds: list[str]) -> None:
    (folder / "elsewhere").mkdir()
    moved = DataConfig(corpus=f"text:{write_text(folder / 'elsewhere')}", tokenizer="bpe:270")
    assert prepare(config).digest == prepare(moved).digest
    assert len(builds) == 1
    assert prepare(moved).name == moved.corpus


DAMAGE = {
    "train.ids.bin": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "test.ids.bin": lambda path: path.write_bytes(b"\1" + path.read_bytes()[1:]),
    "validation.starts.bin": lambda path: path.unlink(),
    "tokenizer.json": lambda path: path.write_text("{}"),
    "manifest.json": lambda path: path.write_text(path.read_text().replace('"format": 5', '"format": 4')),
    "train.names.json": lambda path: path.write_text("[]"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_cache_is_built_again_with_one_line(name: str, config: DataConfig, folder: Path) -> None:
    first = prepare(config)
    summary = first.summary()
    [cached] = cached_folders(folder)
    DAMAGE[name](cached / name)
    lines: list[str] = []
    assert prepare(config, lines.append).summary() == summary
    assert [line for line in lines if "does not match" in line] == [
        line for line in lines if "building it again" in line
    ]
    assert len([line for line in lines if "building it again" in line]) == 1
    lines.clear()
    prepare(config, lines.append)
    assert lines == []


def test_where_nothing_can_be_written_it_carries_on_in_memory(
    config: DataConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prepare(config)
    (folder / "file").write_text("")
    monkeypatch.setenv("ASSAY_CACHE", str(folder / "file" / "cache"))
    lines: list[str] = []
    assert same(prepare(config, lines.append), expected)
    assert len([line for line in lines if "carrying on in memory" in line]) == 1


def test_no_space_left_leaves_nothing_half_written(
    config: DataConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = cache._written, []

    def full(path: Path, content: bytes | memoryview) -> Any:
        written.append(path)
        if len(written) == 7:
            path.write_bytes(content[:3])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, content)

    monkeypatch.setattr(cache, "_written", full)
    lines: list[str] = []
    corpus = prepare(config, lines.append)
    assert len([line for line in lines if "No space left on device" in line]) == 1
    assert cached_folders(folder) == []
    monkeypatch.undo()
    monkeypatch.setenv("ASSAY_CACHE", str(folder / "cache"))
    assert same(prepare(config), corpus)


def test_what_a_killed_process_left_is_swept_away(config: DataConfig, folder: Path) -> None:
    prepare(config)
    [cached] = cached_folders(folder)
    stale = cached.with_name(f".{cached.name}.part-123")
    cached.rename(stale)
    prepare(config)
    assert cached_folders(folder) == [cached]


def _prepare_digest(values: dict[str, Any]) -> str:
    return prepare(DataConfig(**values)).digest


def test_two_processes_at_once_get_the_same(config: DataConfig, folder: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        digests = pool.map(_prepare_digest, [config.model_dump()] * 4, chunksize=1)
    assert digests == [prepare(config).digest] * 4
    assert len(cached_folders(folder)) == 1


def test_a_wrong_request_leaves_no_corpus_behind(config: DataConfig, folder: Path) -> None:
    with pytest.raises(RequestError, match="bpe:5000"):
        prepare(DataConfig(corpus=config.corpus, tokenizer="bpe:5000"))
    assert cached_folders(folder) == []


def test_a_tokenizer_that_loses_text_gets_no_bits_per_byte(config: DataConfig, folder: Path) -> None:
    # The file of a tokenizer with a normaliser, as BERT's: it writes everything in lower case.
    tokenizer = build_tokenizer("bytes", [])
    inner = tokenizer._inner
    inner.normalizer = normalizers.Lowercase()
    inner.save(str(folder / "lower.json"))
    lines: list[str] = []
    corpus = prepare(DataConfig(corpus=config.corpus, tokenizer=str(folder / "lower.json")), lines.append)
    assert not corpus.invertible
    assert "documents decoded to another text, as stories.txt:1" in lines[-1]
    assert "no bits per byte" in corpus.description()[-1]
    assert not prepare(DataConfig(corpus=config.corpus, tokenizer=str(folder / "lower.json"))).invertible


def test_the_splits_are_shown_and_a_large_document_is_told_of(folder: Path) -> None:
    (folder / "few").mkdir()
    for name in ("a", "b", "c"):
        (folder / "few" / f"{name}.txt").write_text(f"{name} " * 40)
    corpus = prepare(DataConfig(corpus=f"text:{folder / 'few'}", tokenizer="bytes"))
    few = "1 document of 80 bytes"
    lines = corpus.description()
    assert lines[0] == f"{corpus.name}: train {few}, validation {few}, test {few}"
    for line, split in zip(lines[1:], SPLITS, strict=True):
        name = corpus.split(split).names[0]
        assert line == f"{name} alone is 100% of {split}: what is found there speaks of few documents"
    many = DataConfig(corpus=f"text:{write_text(folder, documents=200)}", tokenizer="bytes")
    assert len(prepare(many).description()) == 1


def foreign(path: Path, split: bool = True) -> Path:
    """A tokenizer.json as SentencePiece's: a space is written before the text, and taken away when it is decoded."""
    letters = sorted({*STORY, *"0123456789foxcranemlhutw", "\u2581"} - {" "})
    inner = tokenizers.Tokenizer(models.BPE(vocab={each: n for n, each in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=split)
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    inner.add_special_tokens(["<s>", "</s>"])
    inner.save(str(path))
    return path


def test_bits_per_byte_need_an_exact_round_trip_and_nothing_else(config: DataConfig, folder: Path) -> None:
    """The vocabulary counts a byte too many for the space that is written before a text; the text itself tells."""
    asked = DataConfig(corpus=config.corpus, tokenizer=str(foreign(folder / "tokenizer.json")))
    corpus, again = prepare(asked), prepare(asked)
    assert corpus.invertible
    for name in SPLITS:
        split = corpus.split(name)
        counted = corpus.tokenizer.token_bytes[split.ids]
        assert counted.sum() > split.document_bytes.sum()
        for one in (split, again.split(name)):
            assert one.token_bytes is not None
            assert np.add.reduceat(one.token_bytes, one.starts[:-1]).tolist() == split.document_bytes.tolist()
            windows = scoring_windows(one, 16, corpus.tokenizer.token_bytes, 0)
            of_documents = np.bincount(windows.document, windows.bytes)
            assert of_documents.tolist() == split.document_bytes.tolist()


def test_a_tokenizer_that_draws_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known draws are switched off; what a later version of the library may bring is noticed by its results."""
    tokenizer = build_tokenizer("bytes", [])
    encoded = itertools.count()
    monkeypatch.setattr(type(tokenizer), "encode_batch", lambda _, texts: [[next(encoded) % 256] for _ in texts])
    with pytest.raises(RequestError, match="--tokenizer bytes: encodes the same text otherwise each time"):
        tokenize([Document("a", "text")], tokenizer)


def test_large_vocabularies_need_four_bytes() -> None:
    assert [id_dtype(size) for size in (1 << 16, (1 << 16) + 1)] == ["<u2", "<u4"]


def test_the_content_hash_tells_where_one_document_ends() -> None:
    parts = [Document("a", "xy"), Document("b", "z")], [Document("a", "x"), Document("b", "yz")]
    assert module._content_digest(parts[0]) != module._content_digest(parts[1])
