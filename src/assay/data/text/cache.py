"""The cache of tokenised corpora on disk: memory-mapped files and a manifest, written atomically, checked when read."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import filelock
import numpy as np

from assay.data.corpus import SPLITS, Split, Tell
from assay.data.text.tokenized import SplitCounts, TokenizedCorpus, TokenizedSplit, id_dtype
from assay.data.text.tokenizer import Tokenizer
from assay.records import Record

CACHE_FORMAT = 5
"""The version of the cache's format; increase it when the same request would give other files (another split, too)."""

_HASHED_BYTES = 100_000_000
"""Only files up to this size are hashed when read; of larger ones the size alone is checked."""


class StoredFile(Record):
    """Size and hash of one file of a cached corpus."""

    bytes: int
    sha256: str


class Manifest(Record):
    """manifest.json: what a cached corpus is, and the files it must have."""

    format: Literal[5]
    key: str
    digest: str
    tokenizer: str
    bos: int
    eos: int
    vocab_size: int
    duplicates_dropped: int
    near_duplicate_clusters: int
    official: bool
    made: tuple[Split, ...]
    invertible: bool
    files: dict[str, StoredFile]


def load_or_build(
    folder: Path, key: str, name: str, build: Callable[[], TokenizedCorpus], progress: Tell
) -> TokenizedCorpus:
    """Return the corpus cached in `folder` under `key`, called `name`; build and store it where there is none.

    One process builds it, others wait. If the folder cannot be written, the corpus stays in memory and a line says so.
    """
    if not _mismatch(folder, key):
        return _load(folder, name)
    try:
        lock = _acquire(folder, progress)
    except OSError as error:
        progress(_in_memory(folder, error))
        return build()
    try:
        wrong = _mismatch(folder, key)  # checked again, as the process that held the lock may have built it
        if not wrong:
            return _load(folder, name)
        if folder.exists():
            progress(f"cache {folder} does not match ({wrong}): building it again")
        corpus = build()
        try:
            _store(folder, key, corpus)
        except OSError as error:
            progress(_in_memory(folder, error))
            return corpus
        return _load(folder, name)
    finally:
        lock.release()


def _acquire(folder: Path, progress: Tell) -> filelock.BaseFileLock:
    """The lock of one cached corpus; the operating system frees it if its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        progress("another process prepares the same corpus: waiting for it")
        lock.acquire()
    return lock


def _in_memory(folder: Path, error: OSError) -> str:
    return f"cache {folder.parent} cannot be written ({error.strerror or error}): carrying on in memory"


def corpus_digest(tokenizer: Tokenizer, splits: list[TokenizedSplit]) -> str:
    """SHA-256 of the tokenizer and of all tokens with the bounds of their documents."""
    hashes = [hashlib.sha256(array).hexdigest() for split in splits for array in (split.ids.data, split.starts.data)]
    return hashlib.sha256(json.dumps([tokenizer.digest, tokenizer.vocab_size, hashes]).encode()).hexdigest()


def _mismatch(folder: Path, key: str) -> str | None:
    """Why `folder` cannot be used, or None."""
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
        if manifest.key != key:
            return "made for another request"
        for name, expected in manifest.files.items():
            path = folder / name
            if path.stat().st_size != expected.bytes:
                return f"{name} has another size"
            if expected.bytes <= _HASHED_BYTES and _sha256(path.read_bytes()) != expected.sha256:
                return f"{name} has another content"
    except OSError as error:
        return f"{Path(error.filename or folder).name}: {error.strerror}"
    except ValueError:
        return "its manifest cannot be read"
    return None


def _load(folder: Path, name: str) -> TokenizedCorpus:
    """Read a folder in which `_mismatch` found no fault."""
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json", manifest.tokenizer, (manifest.bos, manifest.eos))
    splits = {
        split: TokenizedSplit(
            np.memmap(folder / f"{split}.ids.bin", dtype=id_dtype(manifest.vocab_size), mode="r"),
            np.fromfile(folder / f"{split}.starts.bin", dtype="<i8"),
            np.fromfile(folder / f"{split}.bytes.bin", dtype="<i8"),
            json.loads((folder / f"{split}.names.json").read_bytes()),
            np.fromfile(folder / f"{split}.sources.bin", dtype="<i8"),
            np.memmap(folder / f"{split}.token_bytes.bin", dtype="<u4", mode="r")
            if f"{split}.token_bytes.bin" in manifest.files
            else None,
        )
        for split in SPLITS
    }
    counts = SplitCounts(
        manifest.duplicates_dropped, manifest.near_duplicate_clusters, manifest.official, manifest.made
    )
    return TokenizedCorpus(
        name=name, digest=manifest.digest, tokenizer=tokenizer, counts=counts, invertible=manifest.invertible, **splits
    )


def _store(folder: Path, key: str, corpus: TokenizedCorpus) -> None:
    """Write everything to a new folder beside `folder`, then rename it to that; on failure nothing is left."""
    for stale in folder.parent.glob(f".{folder.name}.part-*"):
        shutil.rmtree(stale, ignore_errors=True)  # left by a killed process; nobody else writes while we hold the lock
    part = folder.with_name(f".{folder.name}.part-{uuid.uuid4().hex}")
    try:
        part.mkdir()
        corpus.tokenizer.save(part / "tokenizer.json")
        files = {"tokenizer.json": _described((part / "tokenizer.json").read_bytes())}
        for name in SPLITS:
            for suffix, content in _contents(corpus.split(name)).items():
                files[f"{name}.{suffix}"] = _written(part / f"{name}.{suffix}", content)
        manifest = Manifest(
            format=5,
            key=key,
            digest=corpus.digest,
            tokenizer=corpus.tokenizer.name,
            bos=corpus.tokenizer.bos,
            eos=corpus.tokenizer.eos,
            vocab_size=corpus.tokenizer.vocab_size,
            duplicates_dropped=corpus.counts.duplicates_dropped,
            near_duplicate_clusters=corpus.counts.near_duplicate_clusters,
            official=corpus.counts.official,
            made=corpus.counts.made,
            invertible=corpus.invertible,
            files=files,
        )
        _written(part / "manifest.json", manifest.model_dump_json(indent=2).encode())
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _contents(split: TokenizedSplit) -> dict[str, memoryview]:
    """The contents of one split's files, by the ends of their names."""
    of_tokens = {} if split.token_bytes is None else {"token_bytes.bin": split.token_bytes.data.cast("B")}
    return of_tokens | {
        "ids.bin": split.ids.data.cast("B"),
        "starts.bin": split.starts.astype("<i8").data.cast("B"),
        "bytes.bin": split.document_bytes.astype("<i8").data.cast("B"),
        "names.json": memoryview(json.dumps(split.names).encode()),
        "sources.bin": split.sources.astype("<i8").data.cast("B"),
    }


def _written(path: Path, content: bytes | memoryview) -> StoredFile:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return _described(content)


def _described(content: bytes | memoryview) -> StoredFile:
    return StoredFile(bytes=len(content), sha256=_sha256(content))


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
