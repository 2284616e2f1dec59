"""Imports models from Hugging Face's layout, checked tensor by tensor, and writes them to folders that assay reads."""

import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.data.text.tokenizer import Tokenizer
from assay.errors import RequestError
from assay.hub import gpt2, mamba2
from assay.hub.folder import CONFIG, TOKENIZER, digest, locate, read_json, read_tensors, read_tokenizer
from assay.hub.tensors import fill, write_safetensors
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig, assemble, is_tied
from assay.model.lm import LanguageModel
from assay.records import Versioned

RECORD = "import.json"
OWN_TYPE = "assay"
"""The model_type of architectures that transformers does not have."""
OWN_PREFIX = "model."
"""The prefix of the tensors' names in a folder of that model_type."""


class ImportRecord(Versioned):
    """What an imported model is and where it came from: import.json, beside checkpoint/ and tokenizer.json."""

    architecture: str
    dimensions: dict[str, Any]
    source: str
    """hf:PATH or hf:NAME."""
    digest: str
    """SHA-256 over the files that were read."""
    ends: tuple[int, int] | None
    """The ids of BOS and EOS; None without a tokenizer."""
    begins_with_bos: bool
    """Whether the tokenizer puts BOS before a text."""


@dataclass(frozen=True)
class Imported:
    """A model that was read, with everything that goes into its folder."""

    record: ImportRecord
    config: ModelConfig
    model: LanguageModel
    tokenizer: Tokenizer | None


@dataclass(frozen=True)
class Layout:
    """How one model_type is read: assay's name for it, and functions that convert its dimensions and tensors."""

    architecture: Callable[[Mapping[str, Any]], str]
    dimensions: Callable[[Mapping[str, Any]], dict[str, Any]]
    tensors: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def read_model(source: str) -> Imported:
    """Read the model that hf:PATH or hf:NAME names, in float32; what assay cannot represent is a RequestError."""
    folder = locate(source)
    described = read_json(folder / CONFIG)
    kind = described.get("model_type")
    if kind not in LAYOUTS:
        raise RequestError(f"{folder / CONFIG}: model_type {kind!r} given; {', '.join(LAYOUTS)} can be imported")
    layout = LAYOUTS[str(kind)]
    architecture = ARCHITECTURES.get(layout.architecture(described))
    config = architecture.config.parse(layout.dimensions(described))
    model = assemble(architecture, config)
    fill(model, _one_head(layout.tensors(read_tensors(folder)), architecture, config, folder), folder)
    tokenizer, begins = read_tokenizer(folder) or (None, False)
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise RequestError(
            f"{folder / TOKENIZER}: has {tokenizer.vocab_size} tokens, the model {config.vocab_size}; "
            "the tokenizer of another model?"
        )
    record = ImportRecord(
        architecture=architecture.name,
        dimensions=config.model_dump(mode="json"),
        source=source,
        digest=digest(folder),
        ends=None if tokenizer is None else (tokenizer.bos, tokenizer.eos),
        begins_with_bos=begins,
    )
    return Imported(record, config, model.eval(), tokenizer)


def write_model(imported: Imported, out: Path) -> None:
    """Write the folder `out` atomically. If it holds the same model already it is left; otherwise it must be empty."""
    if (out / RECORD).exists() and ImportRecord.read(out / RECORD).digest == imported.record.digest:
        return
    with_new_folder(out, "--out", lambda folder: _write(imported, folder))


def with_new_folder(out: Path, option: str, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder, and rename it to `out` once it is complete. `out` must not exist, or be empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "holds files" if out.is_dir() else "is a file"
        raise RequestError(f"{option} {out}: {what}; give a new or an empty folder")
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    made = [place for place in part.parents if not place.exists()]
    try:
        try:
            part.mkdir(parents=True)
        except OSError as error:
            raise RequestError(f"{option} {out}: {error.strerror}; give a folder that can be written") from None
        write(part)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for place in made:
            if place.exists() and not any(place.iterdir()):
                place.rmdir()
        raise


def _write(imported: Imported, folder: Path) -> None:
    (folder / "checkpoint").mkdir()
    write_safetensors(folder / "checkpoint" / "model.safetensors", imported.model.state_dict())
    if imported.tokenizer is not None:
        imported.tokenizer.save(folder / TOKENIZER)
    imported.record.write(folder / RECORD)


def _one_head(
    tensors: dict[str, Tensor], architecture: Architecture, config: ModelConfig, folder: Path
) -> dict[str, Tensor]:
    """The tensors without the head where it is tied; one that differs from the token table is then a RequestError."""
    if "untied_head" not in tensors or not is_tied(architecture, config):
        return tensors
    head, table = tensors["untied_head"], tensors.get("embedding.tokens")
    if table is None or not head.equal(table):
        raise RequestError(f"{folder}: its head differs from its token table though tie_word_embeddings is true")
    return {name: tensor for name, tensor in tensors.items() if name != "untied_head"}


def _own_architecture(described: Mapping[str, Any]) -> str:
    name = described.get("architecture")
    if name not in ARCHITECTURES.names():
        raise RequestError(f"config.json: architecture {name!r} is not known here; --plugin FILE.py brings one's own")
    return str(name)


def _own_dimensions(described: Mapping[str, Any]) -> dict[str, Any]:
    dimensions = described.get("dimensions")
    if not isinstance(dimensions, dict):
        raise RequestError("config.json: dimensions are missing; a folder that `assay export` wrote has them")
    return dimensions


def _own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(OWN_PREFIX): tensor for name, tensor in tensors.items()}


LAYOUTS = {
    "gpt2": Layout(lambda _: "gpt2", gpt2.config_from_hf, gpt2.gpt2_to_assay),
    "mamba2": Layout(lambda _: "mamba2", mamba2.config_from_hf, mamba2.mamba2_to_assay),
    OWN_TYPE: Layout(_own_architecture, _own_dimensions, _own_tensors),
}
