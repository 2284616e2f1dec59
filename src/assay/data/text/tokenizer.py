"""Text to token ids and back: bytes, byte-level BPE trained on the training text, GPT-2's, or a tokenizer.json."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from assay.data.text.tokenizer_files import files_digest, gpt2_files, read_gpt2, read_tokenizer_file
from assay.errors import RequestError
from assay.records import write_whole

BOS, EOS, GPT2_END = "<|bos|>", "<|eos|>", "<|endoftext|>"

_BOS_NAMES = (BOS, "<s>", "<bos>", "[BOS]", "<|begin_of_text|>", "<|startoftext|>", GPT2_END, "[CLS]")
_EOS_NAMES = (EOS, "</s>", "<eos>", "[EOS]", "<|end_of_text|>", GPT2_END, "<|im_end|>", "[SEP]")

BYTES_VOCAB_SIZE = 258
"""Ids of the tokenizer `bytes`: 256, BOS and EOS."""
_LEAST_BPE, _MOST_BPE = BYTES_VOCAB_SIZE, 1_000_000
"""The allowed vocabulary sizes of BPE. The least is 256 bytes, BOS and EOS; the most is more than any text needs."""


class Tokenizer:
    """A tokenizer with ids for begin and end of document. Text never becomes a special id, even if it spells one."""

    def __init__(self, name: str, inner: tokenizers.Tokenizer, bos: int, eos: int) -> None:
        """`inner` is changed in place: truncation, padding, draws and added special tokens are switched off."""
        inner.no_padding()
        inner.no_truncation()
        _switch_draws_off(inner)
        inner.encode_special_tokens = True  # "<|eos|>" in a text is text
        self.name = name
        self.bos = bos
        self.eos = eos
        self._inner = inner
        self.vocab_size = max(inner.get_vocab(with_added_tokens=True).values()) + 1
        # The byte tokenizer is recognised here, since bytes can be encoded without the library.
        self._is_bytes = self.vocab_size == _LEAST_BPE and inner.to_str() == _byte_model().to_str()

    @cached_property
    def token_bytes(self) -> NDArray[np.int64]:
        """int64[V]: bytes of text that each id stands for; 0 for special tokens."""
        counts = np.zeros(self.vocab_size, dtype=np.int64)
        length = len if isinstance(self._inner.decoder, decoders.ByteLevel) else _text_bytes
        for token, number in self._inner.get_vocab(with_added_tokens=False).items():
            counts[number] = length(token)
        for number, added in self._inner.get_added_tokens_decoder().items():
            counts[number] = 0 if added.special else len(added.content.encode())
        counts[[self.bos, self.eos]] = 0
        return counts

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that defines the tokenizer, without its name."""
        content = json.dumps([json.loads(self._inner.to_str()), self.bos, self.eos], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without BOS and EOS."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without BOS and EOS."""
        if self._is_bytes:
            return [list(text.encode()) for text in texts]
        try:
            return [each.ids for each in self._inner.encode_batch_fast(list(texts), add_special_tokens=False)]
        except Exception as error:  # the library raises nothing more specific
            raise RequestError(
                f"--tokenizer {self.name}: cannot encode this text ({str(error) or type(error).__name__}); one that "
                "encodes every text would do"
            ) from None

    def byte_counts(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """For each text int64[n_tokens], the bytes of text that each of its tokens stands for.

        They are taken from where the tokens end in the text, and add up to its bytes. Slower than `token_bytes`, and
        for any tokenizer: a token's bytes can depend on where it stands. Of a character in several tokens the first
        has all bytes.
        """
        counts = []
        for text, encoding in zip(texts, self._inner.encode_batch(list(texts), add_special_tokens=False), strict=True):
            starts = np.cumsum([0, *(len(character.encode()) for character in text)])
            ends = np.maximum.accumulate(np.array([end for _, end in encoding.offsets], np.int64))
            ends[-1:] = len(text)
            counts.append(np.diff(starts[ends], prepend=0))
        return counts

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; BOS, EOS and other special tokens are left out."""
        return self.decode_batch([ids])[0]

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of ids."""
        if self._is_bytes:
            return [bytes(number for number in ids if number < 256).decode(errors="replace") for ids in batch]
        return list(self._inner.decode_batch([[int(number) for number in ids] for ids in batch]))

    def save(self, path: Path) -> None:
        """Write a tokenizer.json atomically."""
        write_whole(path, self._inner.to_str().encode())

    @classmethod
    def from_file(cls, path: Path, name: str | None = None, ends: tuple[int, int] | None = None) -> "Tokenizer":
        """Read a tokenizer.json; a file that is none, or has no begin or end of text, is a RequestError.

        `ends` are BOS and EOS where they are known; else they are looked for under their usual names.
        """
        inner = read_tokenizer_file(path)
        bos, eos = ends or _find_ends(path, inner)
        return cls(name or str(path), inner, bos, eos)


def _switch_draws_off(inner: tokenizers.Tokenizer) -> None:
    """Make encoding a function of the text: no dropout of merges (BPE), no sampling of segmentations (Unigram)."""
    model = inner.model
    if isinstance(model, models.BPE):
        model.dropout = None
    elif isinstance(model, models.Unigram):
        model.alpha = None
        model.nbest_size = None


def _find_ends(path: Path, inner: tokenizers.Tokenizer) -> tuple[int, int]:
    added = {token.content: number for number, token in inner.get_added_tokens_decoder().items() if token.special}
    found: list[int] = []
    for end, names in (("begin", _BOS_NAMES), ("end", _EOS_NAMES)):
        known = [added[each] for each in names if each in added]
        if not known:
            raise RequestError(
                f"--tokenizer {path}: no special token for the {end} of a text; there is "
                f"{', '.join(added) or 'none at all'}, and {', '.join(names)} would do"
            )
        found.append(known[0])
    return found[0], found[1]


def tokenizer_identity(spec: str) -> str:
    """A text that identifies the tokenizer of `--tokenizer spec`, but for the text it is trained on; checks `spec`."""
    if spec == "bytes":
        return spec
    if spec.startswith("bpe:"):
        return f"bpe:{_bpe_size(spec)}"
    if spec == "gpt2" or spec.startswith("gpt2:"):
        return f"gpt2 {files_digest(gpt2_files(spec))}"
    if re.fullmatch(r"[\w-]+", spec) and not Path(spec).exists():
        raise RequestError(f"--tokenizer {spec}: unknown; bytes, bpe:N, gpt2 or the path of a tokenizer.json would do")
    return f"file {files_digest((Path(os.path.expanduser(spec)),))}"


def build_tokenizer(spec: str, training_texts: Sequence[str]) -> Tokenizer:
    """Make the tokenizer that `--tokenizer spec` names; only `bpe:N` looks at the (training) texts."""
    tokenizer_identity(spec)
    if spec == "bytes":
        inner = _byte_model()
    elif spec.startswith("bpe:"):
        inner = _trained_bpe(spec, training_texts)
    elif spec == "gpt2" or spec.startswith("gpt2:"):
        inner = _byte_level(read_gpt2(spec))
        if inner.token_to_id(GPT2_END) is None:
            raise RequestError(f"--tokenizer {spec}: its encoder.json has no {GPT2_END}; GPT-2's files would do")
        inner.add_special_tokens([AddedToken(GPT2_END, special=True, normalized=False)])
        spec = "gpt2"
    else:
        inner = read_tokenizer_file(Path(os.path.expanduser(spec)))
    return Tokenizer(spec, inner, *_find_ends(Path(spec), inner))


def _trained_bpe(spec: str, texts: Sequence[str]) -> tokenizers.Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; bytes: Radford et al. 2019) of exactly N tokens, specials included."""
    size = _bpe_size(spec)
    inner = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(iter(texts), trainer, length=len(texts))
    reached = inner.get_vocab_size()
    if reached < size:
        raise RequestError(
            f"--tokenizer {spec}: the training text gives at most {reached} tokens; bpe:{reached} would do"
        )
    return inner


def _bpe_size(spec: str) -> int:
    number = spec.removeprefix("bpe:")
    if not re.fullmatch("[0-9]{1,7}", number) or not _LEAST_BPE <= int(number) <= _MOST_BPE:
        raise RequestError(
            f"--tokenizer {spec}: N of bpe:N is the number of tokens, {_LEAST_BPE} to {_MOST_BPE}; bpe:4096 would do"
        )
    return int(number)


def _byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    """A tokenizer around `model` that works on bytes, each written as a character, and normalises nothing.

    So decoding gives every text back unchanged.
    """
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def _byte_model() -> tokenizers.Tokenizer:
    """The byte tokenizer: each id below 256 is that byte; BOS is 256, EOS 257."""
    inner = _byte_level(models.BPE(vocab=_byte_characters(), merges=[]))
    inner.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in (BOS, EOS)])
    return inner


def _byte_characters() -> dict[str, int]:
    """{character: byte} as in GPT-2: printable Latin-1 stands for itself, other bytes for characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


def _text_bytes(token: str) -> int:
    """Bytes of text in a token of other schemes: `<0x0A>` is one byte, U+2581 is a space, ## and </w> are no text."""
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
        return 1
    return len(token.removeprefix("##").removesuffix("</w>").replace("\u2581", " ").encode())
