"""Tokenizers: assay's give every text back, text never becomes a special token, wrong names get one line."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from assay.data.corpus import Document
from assay.data.text.tokenized import tokenize
from assay.data.text.tokenizer import Tokenizer, build_tokenizer, tokenizer_identity
from assay.errors import RequestError

TEXTS = [
    "the quick brown fox jumps over the lazy dog\n" * 3,
    "def f(x):\r\n    return x  # caf\u00e9 \u4e2d\u6587\n" * 2,
]
SPELT = "a<|bos|>b<|eos|><|endoftext|>"

UTF8 = st.text(st.characters(codec="utf-8"), max_size=60)
PIECES = st.lists(
    st.sampled_from(["\r\n", "\0", "  ", "\U0001f600", SPELT, "the quick", "\u0301", "\n\n\t"]), max_size=8
)


@pytest.fixture(scope="module", params=["bytes", "bpe:258", "bpe:290"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return build_tokenizer(request.param, TEXTS)


@given(UTF8, PIECES)
@settings(deadline=None, max_examples=80, database=None)
def test_every_text_comes_back_and_its_bytes_are_counted(tokenizer: Tokenizer, text: str, pieces: list[str]) -> None:
    text += "".join(pieces)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes[ids].sum() == len(text.encode())
    assert not {tokenizer.bos, tokenizer.eos} & set(ids)
    assert tokenizer.decode([tokenizer.bos, *ids, tokenizer.eos]) == text


def test_sizes_and_ends(tokenizer: Tokenizer) -> None:
    size = 258 if tokenizer.name == "bytes" else int(tokenizer.name.split(":")[1])
    assert tokenizer.vocab_size == size == len(tokenizer.token_bytes)
    assert tokenizer.bos != tokenizer.eos
    assert tokenizer.token_bytes[[tokenizer.bos, tokenizer.eos]].tolist() == [0, 0]
    assert (tokenizer.token_bytes > 0).sum() == size - 2
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]
    if tokenizer.name == "bytes":
        assert tokenizer.encode("\u00e9\0") == [0xC3, 0xA9, 0]
        assert (tokenizer.bos, tokenizer.eos) == (256, 257)


def test_a_saved_tokenizer_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert (again.digest, again.bos, again.eos) == (tokenizer.digest, tokenizer.bos, tokenizer.eos)
    assert again.encode(TEXTS[1] + SPELT) == tokenizer.encode(TEXTS[1] + SPELT)
    assert again.token_bytes.tolist() == tokenizer.token_bytes.tolist()


def test_the_library_gives_bytes_the_same_ids() -> None:
    """`bytes` encodes without the library; other programs read its tokenizer.json with the library: both must agree."""
    tokenizer = build_tokenizer("bytes", [])
    for text in (*TEXTS, "\r\n\0  \U0001f600"):
        assert tokenizer._inner.encode(text).ids == tokenizer.encode(text)
        assert tokenizer._inner.decode(tokenizer.encode(text)) == text


def test_bpe_is_deterministic_and_depends_on_the_text() -> None:
    one, again = (build_tokenizer("bpe:280", TEXTS).digest for _ in range(2))
    assert one == again
    assert build_tokenizer("bpe:280", TEXTS[:1]).digest != one


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("bpe:257", "258 to 1000000; bpe:4096 would do"),
        ("bpe:many", "258 to 1000000; bpe:4096 would do"),
        ("bpe:", "258 to 1000000; bpe:4096 would do"),
        ("bpe:-300", "258 to 1000000; bpe:4096 would do"),
        ("bpe:99999999999", "258 to 1000000; bpe:4096 would do"),
        ("byte", "unknown; bytes, bpe:N, gpt2 or the path of a tokenizer.json would do"),
        ("missing/tokenizer.json", "No such file or directory"),
        ("gpt2:", "the folder of encoder.json and vocab.bpe is missing"),
        ("gpt2:missing", "no encoder.json in missing"),
        (__file__, "not a tokenizer.json"),
    ],
)
def test_a_tokenizer_that_is_none_gets_one_line(spec: str, expected: str) -> None:
    with pytest.raises(RequestError) as caught:
        build_tokenizer(spec, TEXTS)
    assert str(caught.value).startswith(f"--tokenizer {spec}: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_too_small_for_n_says_the_largest_n() -> None:
    with pytest.raises(RequestError) as caught:
        build_tokenizer("bpe:4096", TEXTS)
    largest = str(caught.value).split("; ")[1].removesuffix(" would do")
    assert build_tokenizer(largest, TEXTS).vocab_size == int(largest.removeprefix("bpe:"))


@pytest.fixture
def small_gpt2(tmp_path: Path) -> Path:
    letters = {letter: number for number, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    vocabulary = letters | {"th": 256, "the": 257, "<|endoftext|>": 258}
    (tmp_path / "encoder.json").write_text(json.dumps(vocabulary))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\nt h\nth e\n")
    return tmp_path


def test_gpt2_is_read_from_its_two_files(small_gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = build_tokenizer(f"gpt2:{small_gpt2}", [])
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.bos, tokenizer.eos) == ("gpt2", 259, 258, 258)
    assert tokenizer.encode("the")[0] == 257
    assert tokenizer.decode(tokenizer.encode(TEXTS[1] + SPELT)) == TEXTS[1] + SPELT
    assert 258 not in tokenizer.encode(SPELT)
    monkeypatch.setenv("ASSAY_GPT2", str(small_gpt2))
    assert build_tokenizer("gpt2", []).digest == tokenizer.digest
    assert tokenizer_identity("gpt2") == tokenizer_identity(f"gpt2:{small_gpt2}")


@pytest.mark.parametrize(
    ("encoder", "merges", "expected"),
    [
        ("{", "t h", "are not GPT-2's"),
        ("[]", "t h", "are not GPT-2's"),
        ('{"t": 0, "h": 1}', "t h", "has no 'th'"),
        ('{"t": 0, "h": 1}', "t", "are not GPT-2's"),
        ('{"t": "0", "h": 1, "th": 2}', "t h", "are not GPT-2's"),
        ('{"t": 0, "h": 1, "th": 2}', "t h", "has no <|endoftext|>"),
    ],
)
def test_gpt2_files_that_are_not_get_one_line(encoder: str, merges: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "encoder.json").write_text(encoder)
    (tmp_path / "vocab.bpe").write_text(merges)
    with pytest.raises(RequestError) as caught:
        build_tokenizer(f"gpt2:{tmp_path}", [])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gpt2_from_the_hub_or_one_line(small_gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"vocab.json": small_gpt2 / "encoder.json", "merges.txt": small_gpt2 / "vocab.bpe"}
    monkeypatch.delenv("ASSAY_GPT2", raising=False)
    hub = SimpleNamespace(hf_hub_download=lambda _, name: str(files[name]))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert build_tokenizer("gpt2", []).vocab_size == 259
    for stand_in, expected in (
        (SimpleNamespace(), "the hub cannot be read"),
        (None, r"-m pip install 'huggingface-hub<3,>=2.4'` brings it"),
    ):
        monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
        with pytest.raises(RequestError, match=expected):
            build_tokenizer("gpt2", [])


def write_foreign(path: Path, specials: list[str]) -> Path:
    """A tokenizer.json as other schemes write them: whole words, a lower block for the space, an unknown token."""
    vocabulary = {"<unk>": 0, "\u2581the": 1, "\u2581fox": 2, "<0x0A>": 3}
    inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.add_special_tokens(specials)
    inner.enable_truncation(2)
    inner.enable_padding(length=8)
    inner.save(str(path))
    return path


def test_a_foreign_tokenizer_neither_truncates_nor_pads_and_counts_what_it_can(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "tokenizer.json", ["<s>", "</s>"])
    tokenizer = build_tokenizer(str(path), [])
    assert tokenizer.encode("the fox the fox") == [1, 2, 1, 2]
    assert (tokenizer.bos, tokenizer.eos, tokenizer.vocab_size) == (4, 5, 6)
    assert tokenizer.token_bytes.tolist() == [5, 4, 4, 1, 0, 0]


def test_a_foreign_tokenizer_without_ends_lists_its_specials(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "tokenizer.json", ["<s>", "<mask>"])
    with pytest.raises(RequestError, match="no special token for the end of a text; there is <s>, <mask>, and"):
        build_tokenizer(str(path), [])


def test_settings_that_draw_are_switched_off(tmp_path: Path) -> None:
    """BPE-dropout and sampled segmentations of Unigram: a text would be encoded otherwise each time."""
    inner = tokenizers.Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")], dropout=0.5))
    inner.add_special_tokens(["<s>", "</s>"])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = build_tokenizer(str(tmp_path / "tokenizer.json"), [])
    assert tokenizer.encode("ab" * 50) == [2] * 50
    tokenizer.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["model"]["dropout"] is None
    pieces = [("<unk>", 0.0), ("a", -2.0), ("b", -2.0), ("ab", -1.0)]
    drawing = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False, alpha=0.1))
    drawing.add_special_tokens(["<s>", "</s>"])
    assert Tokenizer("drawing", drawing, 4, 5).encode("ab" * 50) == [3] * 50


def test_bytes_are_counted_where_tokens_stand(tmp_path: Path) -> None:
    tokenizer = build_tokenizer("bytes", [])
    assert [counts.tolist() for counts in tokenizer.byte_counts(["a\u00e9\n", ""])] == [[1, 2, 0, 1], []]
    foreign = build_tokenizer(str(write_foreign(tmp_path / "tokenizer.json", ["<s>", "</s>"])), [])
    assert foreign.byte_counts(["the fox"])[0].tolist() == [3, 4]


def test_a_tokenizer_that_cannot_encode_the_text_is_one_line(tmp_path: Path) -> None:
    """The library finds out that an unknown token is not in the vocabulary when it needs it."""
    inner = tokenizers.Tokenizer(models.WordLevel({"the": 0}, unk_token="nothing"))
    inner.add_special_tokens(["<s>", "</s>"])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = build_tokenizer(str(tmp_path / "tokenizer.json"), [])
    with pytest.raises(RequestError, match=r"--tokenizer .*tokenizer.json: cannot encode this text \(WordLevel error"):
        tokenizer.encode("fox")


def test_a_tokenizer_that_gives_no_token_is_refused() -> None:
    inner = tokenizers.Tokenizer(models.BPE({"q": 0}, []))
    inner.add_special_tokens(["<s>", "</s>"])
    with pytest.raises(RequestError, match="--tokenizer x: gives no token for any document"):
        tokenize([Document("a", "the fox")], Tokenizer("x", inner, 1, 2))


def test_the_home_of_nobody_is_no_such_file() -> None:
    with pytest.raises(RequestError, match=r"--tokenizer ~nobody-of-this-name/x\.json: No such file"):
        build_tokenizer("~nobody-of-this-name/x.json", [])
