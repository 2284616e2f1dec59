"""Finds and reads the files of tokenizers made elsewhere: tokenizer.json, and GPT-2's vocabulary and merges."""

import hashlib
import json
import os
from pathlib import Path

import tokenizers
from tokenizers import models

from assay.errors import RequestError
from assay.extras import brings

_GPT2_REPOSITORY = "openai-community/gpt2"


def read_tokenizer_file(path: Path) -> tokenizers.Tokenizer:
    """Read a tokenizer.json; a file that is missing or not a tokenizer.json is a RequestError."""
    content = _read(path, "bytes, bpe:N, gpt2 or the path of a tokenizer.json would do")
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises nothing more specific
        raise RequestError(f"--tokenizer {path}: not a tokenizer.json ({_first_line(error)})") from None


def read_gpt2(spec: str) -> models.BPE:
    """GPT-2's vocabulary and merges (Radford et al. 2019), from where `gpt2_files` finds them."""
    encoder, bpe = gpt2_files(spec)
    try:
        vocabulary = json.loads(_read(encoder, "GPT-2's would do"))
        lines = _read(bpe, "GPT-2's would do").decode().splitlines()
        merges = [(left, right) for left, right in (line.split() for line in lines if not line.startswith("#version"))]
        # Checked here, as the library would end in a long trace if a token of the merges is missing.
        tokens = {token for left, right in merges for token in (left, right, left + right)}
        if unknown := tokens - vocabulary.keys():
            raise ValueError(f"{encoder.name} has no {min(unknown)!r}")
        return models.BPE(vocab=vocabulary, merges=merges)
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"--tokenizer {spec}: {encoder} and {bpe} are not GPT-2's ({_first_line(error)})") from None


def gpt2_files(spec: str) -> tuple[Path, Path]:
    """encoder.json and vocab.bpe in DIR of `gpt2:DIR`, else in the folder ASSAY_GPT2, else from the hub."""
    folder = spec.partition(":")[2] or os.environ.get("ASSAY_GPT2", "")
    if spec.endswith(":"):
        raise RequestError(f"--tokenizer {spec}: the folder of encoder.json and vocab.bpe is missing after the colon")
    if folder:
        place = Path(os.path.expanduser(folder))
        files = place / "encoder.json", place / "vocab.bpe"
        for file in files:
            if not file.is_file():
                raise RequestError(f"--tokenizer {spec}: no {file.name} in {folder}; GPT-2's files would do")
        return files
    return _hub_file(spec, "vocab.json"), _hub_file(spec, "merges.txt")


def files_digest(paths: tuple[Path, ...]) -> str:
    """SHA-256 over the contents of files."""
    hashes = [hashlib.sha256(_read(path, "a file that can be read would do")).digest() for path in paths]
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def _hub_file(spec: str, name: str) -> Path:
    without = "gpt2:DIR with encoder.json and vocab.bpe works without"
    try:
        import huggingface_hub
    except ImportError:
        raise RequestError(
            f"--tokenizer {spec}: huggingface-hub is missing; {brings('huggingface-hub')}, {without}"
        ) from None
    try:
        return Path(huggingface_hub.hf_hub_download(_GPT2_REPOSITORY, name))
    except Exception as error:  # the network fails with many exceptions; all mean that the hub cannot be read
        raise RequestError(
            f"--tokenizer {spec}: the hub cannot be read ({type(error).__name__}); {without} a network"
        ) from None


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"--tokenizer {path}: {error.strerror}; {remedy}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
