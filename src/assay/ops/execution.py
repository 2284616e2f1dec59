"""How ops run: the forms and chunk length that a plan fixes; the type of matrix products; a recorder of which form
really ran, for tests; a mark on work that values of tensors cause.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch

Form = Literal["loop", "chunked", "kernel"]


@dataclass(frozen=True)
class Execution:
    """The form of every op and the chunk length in tokens; `others` are ops, by name, that take another form.

    Resolved once per study (assay.model.plan), never from timings.
    """

    form: Form = "chunked"
    chunk_length: int = 64
    others: tuple[tuple[str, Form], ...] = ()

    def form_of(self, op: str) -> Form:
        """The form of the op of this name."""
        for name, form in self.others:
            if name == op:
                return form
        return self.form


def equal_chunks(tokens: int, longest: int) -> tuple[int, int]:
    """(number, length) of the fewest chunks of equal length, at most `longest`, that hold `tokens`."""
    number = -(-tokens // longest)
    return number, -(-tokens // number)


def product_dtype(x: torch.Tensor) -> torch.dtype:
    """The type that matrix products of x take here: autocast's where it is on, else x's own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


_recorders: ContextVar[tuple[dict[str, set[str]], ...]] = ContextVar("assay_form_recorders", default=())


def note_form(op: str, form: Form) -> None:
    """Tell the surrounding `recorded_forms` blocks, if any, that `op` ran in `form`; compiled code tells nobody."""
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


_extra_work: ContextVar[bool] = ContextVar("assay_extra_work", default=False)


@contextmanager
def extra_work() -> Iterator[None]:
    """What runs inside is done because of the values of tensors, as for decays that are too hard for a fast form.

    Executed FLOPs are declared from shapes alone, without it; so are those counted to compare (`is_extra_work`).
    """
    token = _extra_work.set(True)
    try:
        yield
    finally:
        _extra_work.reset(token)


def is_extra_work() -> bool:
    """Whether this is inside `extra_work`."""
    return _extra_work.get()
