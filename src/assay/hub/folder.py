"""A folder in Hugging Face's layout: where it is, its config.json, its weights, its tokenizer."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.data.text.tokenizer import Tokenizer
from assay.data.text.tokenizer_files import read_tokenizer_file
from assay.errors import RequestError
from assay.extras import brings
from assay.hub.tensors import read_safetensors

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
WANTED = [CONFIG, "*.safetensors", INDEX, TOKENIZER, TOKENIZER_CONFIG]
"""The files that are downloaded from a repository; none of them can hold code."""


def locate(source: str) -> Path:
    """The folder that hf:PATH names, or a download of the repository hf:NAME where there is no such folder."""
    name = source.removeprefix("hf:")
    if name == source or not name:
        here = f"; hf:{source} would do" if (Path(source) / CONFIG).is_file() else ""
        raise RequestError(f"{source}: hf:PATH of a folder or hf:NAME of a repository is needed{here}")
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        raise RequestError(f"{source}: no such folder; one with {CONFIG} and {WEIGHTS} would do")
    try:
        import huggingface_hub
    except ImportError:
        raise RequestError(
            f"{source}: no such folder, and for a repository huggingface-hub is missing; {brings('huggingface-hub')}"
        ) from None
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=WANTED))
    except Exception as error:  # the network fails with many exceptions; all mean that the hub cannot be read
        raise RequestError(
            f"{source}: no such folder, and no repository that can be read ({type(error).__name__}); "
            "the path of a downloaded one works without a network"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a file that is missing or holds something else is a RequestError."""
    try:
        values = json.loads(path.read_bytes(), object_hook=_number)
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}; a folder in Hugging Face's layout is needed") from None
    except ValueError as error:
        raise RequestError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise RequestError(f"{path}: holds a {type(values).__name__}; an object is needed")
    return values


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: model.safetensors, or the parts that its index names."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
        if pickles:
            raise RequestError(f"{folder}: {pickles[0]} is a pickle, which can run code; save it as {WEIGHTS}")
        raise RequestError(f"{folder}: no {WEIGHTS} and no {INDEX}; one of them is needed")
    names = sorted(set(_weight_map(folder).values()))
    if outside := [name for name in names if name != Path(name).name]:
        raise RequestError(f"{folder / INDEX}: names {outside[0]}; parts lie beside it")
    return [folder / name for name in names]


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors by name; where an index lists parts, they must hold exactly the tensors it lists (RequestError)."""
    files = weight_files(folder)
    parts = [read_safetensors(file) for file in files]
    tensors = {name: tensor for part in parts for name, tensor in part.items()}
    if files == [folder / WEIGHTS]:
        return tensors
    indexed = _weight_map(folder)
    held = {name: file.name for file, part in zip(files, parts, strict=True) for name in part}
    if differing := sorted(set(indexed.items()) ^ set(held.items())):
        name, file = differing[0]
        raise RequestError(f"{folder / INDEX}: index and parts differ about the tensor {name} in {file}")
    return tensors


def digest(folder: Path) -> str:
    """SHA-256 over all files of the folder that are read."""
    files = [folder / CONFIG, *weight_files(folder)]
    files += [path for path in (folder / TOKENIZER, folder / TOKENIZER_CONFIG) if path.exists()]
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()


def read_tokenizer(folder: Path) -> tuple[Tokenizer, bool] | None:
    """The tokenizer, and whether its texts begin with BOS; None where there is no tokenizer.json.

    BOS and EOS are those of tokenizer_config.json, else found under their usual names.
    """
    path = folder / TOKENIZER
    if not path.exists():
        return None
    inner = read_tokenizer_file(path)
    options = read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).exists() else {}
    bos, eos = (_special(inner.token_to_id, options.get(key)) for key in ("bos_token", "eos_token"))
    tokenizer = Tokenizer.from_file(path, ends=None if bos is None or eos is None else (bos, eos))
    begins = inner.encode("", add_special_tokens=True).ids[:1] == [tokenizer.bos]
    return tokenizer, begins or options.get("add_bos_token") is True


def _number(values: dict[str, Any]) -> Any:
    """The value, with {"__float__": "Infinity"}, as transformers writes infinity, turned into a number."""
    return float(values["__float__"]) if set(values) == {"__float__"} else values


def _special(number: Callable[[str], int | None], token: object) -> int | None:
    """The id of a special token, given as its text or as an object with `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    return number(text) if isinstance(text, str) else None


def _weight_map(folder: Path) -> dict[str, str]:
    """{tensor: file} of the index."""
    names = read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise RequestError(f"{folder / INDEX}: no weight_map of tensors to files; one is needed")
    return names
