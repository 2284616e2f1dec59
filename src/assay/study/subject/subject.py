"""Which kind of thing a SUBJECT names, and a model that was found under it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import nn

from assay.errors import RequestError
from assay.model.architecture import ARCHITECTURES, Architecture
from assay.registry import suggestion

Kind = Literal["arm", "folder", "file", "hub", "unknown"]
"""`folder` is that of a run, a study or an import; `hub` is hf:PATH; `unknown`: nothing has that name."""


class Subject(NamedTuple):
    """A SUBJECT as the user gave it, and what kind of thing it names."""

    text: str
    kind: Kind
    path: Path
    """The path of a folder or a file; else the text itself."""
    name: str = ""
    """The name asked for in a file, as in FILE.py:NAME; "" if none was given."""
    architecture: str = ""
    """The architecture's name, for an arm."""

    def unknown(self) -> RequestError:
        """The error where nothing has that name, or nothing that the command can take."""
        what = suggestion(self.text, ARCHITECTURES.names())
        return RequestError(f"{self.text}: no architecture, folder of a run, FILE.py or hf:PATH; {what}")


@dataclass(frozen=True)
class NamedModel:
    """One model that a SUBJECT names, assay's or any other, and what is known of it."""

    name: str
    model: nn.Module
    architecture: Architecture | None = None
    run: Path | None = None
    """The folder that it was trained in."""
    vocab_size: int | None = None
    special_ids: tuple[int, ...] = ()
    fresh: bool = False
    loss: Callable[..., Any] | None = None
    log_prob: Callable[..., Any] | None = None


def parse_subject(text: str) -> Subject:
    """What `text` names. An architecture's name takes precedence over a folder of that name, and a folder over
    ARCH:key=value.
    """
    if text.startswith("hf:"):
        return Subject(text, "hub", Path(text))
    if text in ARCHITECTURES.names():
        return Subject(text, "arm", Path(text), architecture=text)
    file, colon, name = text.partition(".py:")
    if colon or text.endswith(".py"):
        return Subject(text, "file", Path(f"{file}.py" if colon else text), name)
    if Path(text).is_dir():
        return Subject(text, "folder", Path(text))
    architecture = text.partition(":")[0].rpartition("=")[2]
    if architecture in ARCHITECTURES.names():
        return Subject(text, "arm", Path(text), architecture=architecture)
    return Subject(text, "unknown", Path(text))
