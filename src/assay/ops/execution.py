"""How ops run: the form and chunk length a study fixes, and the record of which form really ran."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch

Form = Literal["loop", "chunked"]


@dataclass(frozen=True)
class Execution:
    """The form of every op and the chunk length in tokens. Resolved once per study, never from timings."""

    form: Form = "chunked"
    chunk_length: int = 64


_recorders: ContextVar[tuple[dict[str, set[str]], ...]] = ContextVar("assay_form_recorders", default=())


def note_form(op: str, form: Form) -> None:
    """Tell the surrounding `recorded_forms` blocks, if any, that `op` ran in `form`."""
    if torch.compiler.is_compiling():
        return
    for recorder in _recorders.get():
        recorder.setdefault(op, set()).add(form)


@contextmanager
def recorded_forms() -> Iterator[dict[str, set[str]]]:
    """Collect {op: forms that ran} inside the block, so that no parity test compares a path with itself."""
    recorder: dict[str, set[str]] = {}
    token = _recorders.set((*_recorders.get(), recorder))
    try:
        yield recorder
    finally:
        _recorders.reset(token)
