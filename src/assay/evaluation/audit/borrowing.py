"""How a stranger's model becomes a subject, and how it comes back exactly as it was."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import RequestError
from assay.evaluation.audit.arithmetic import wide
from assay.evaluation.audit.embedding import AtEmbedding
from assay.evaluation.audit.generators import generators_put_back
from assay.evaluation.audit.memory import Memory, reachable
from assay.evaluation.audit.subject import RaisedError, Subject, logits_of
from assay.evaluation.redraw import redrawn

TRIAL_LENGTHS = (8, 16, 64, 256, 1)
_LENGTH_NAMES = ("max_positions", "max_position_embeddings", "n_positions", "n_ctx", "block_size", "max_seq_len")
_SPECIAL_NAMES = ("bos_token_id", "eos_token_id", "pad_token_id")


@contextmanager
def borrowed(
    model: nn.Module,
    vocab_size: int | None = None,
    special_ids: Sequence[int] = (),
    max_length: int | None = None,
    longest: int = 320,
) -> Iterator[Subject]:
    """A subject on a deep copy of `model`; where it cannot be copied, on the model itself, put back afterwards.

    The global generators are put back too. `longest` is how many tokens to search up to where neither `max_length` nor
    the model sets a limit. A RequestError of one line where the model raises, or gives something else than logits.
    """
    if not isinstance(model, nn.Module):
        raise RequestError(f"model: a {type(model).__name__} given; a torch.nn.Module from ids to logits would do")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    with generators_put_back():
        try:
            working = copy.deepcopy(model)
        except Exception:  # whatever a stranger's __deepcopy__ raises
            working = model
        # What a copy shares with the model (all of it where it cannot be copied; closures) is put back afterwards.
        theirs = {id(value) for value in reachable(model)}
        borrowed_memory = Memory(*(value for value in reachable(working) if id(value) in theirs))
        try:
            subject = _running_subject(working)
            subject.vocab_size = _vocabulary(subject, vocab_size)
            subject.special_ids = _special_ids(subject, special_ids)
            subject.longest = _longest(subject, max_length, longest)
            subject.multiple = _multiple(subject)
            subject.memory.restore()
            for training in (False, True):
                for dropout in (True, False):
                    subject.draws(training, dropout)
            yield subject
        finally:
            borrowed_memory.restore()


@torch.no_grad()
def add_redrawn(subject: Subject, seed: int) -> None:
    """Give the copy a second set of parameters, as `evaluation.redraw` draws them, and leave it with the first.

    Frozen ones stay, where others are not: a mask that is kept as a parameter is no weight.
    """
    subject.use("given")
    parameters = [parameter for parameter in subject.model.parameters() if parameter.requires_grad]
    parameters = parameters or list(subject.model.parameters())
    drawn = redrawn(nn.ParameterList(parameters), torch.Generator().manual_seed(seed))
    for parameter, values in zip(parameters, drawn, strict=True):
        parameter.data = values.data
    subject.memories["redrawn"] = Memory(subject.model)
    subject.use("given")


def _running_subject(model: nn.Module) -> Subject:
    """In float64 where the model runs in it, else in its own type."""
    subject = Subject(model)
    for parameter in model.parameters():
        parameter.grad = None
    narrow = [(value, value.data) for value in reachable(model) if isinstance(value, Tensor)]
    for tensor, values in narrow:
        tensor.data = wide(values)
    subject.memories["given"] = Memory(model)
    try:
        subject.outputs = _outputs(subject)
    except RaisedError:
        for tensor, values in narrow:
            tensor.data = values
        subject.wide = False
        subject.memories["given"] = Memory(model)
        try:
            subject.outputs = _outputs(subject)
        except RaisedError as error:
            raise RequestError(
                f"model: {subject.name} raised {error}; an audit needs a module from ids [B, T] to logits [B, T, V]"
            ) from error
    return subject


def _outputs(subject: Subject) -> int:
    """The width of the logits, from the first length in which the model runs, which becomes the subject's shortest."""
    first = None
    for length in TRIAL_LENGTHS:
        try:
            width = subject.logits(torch.zeros(1, length, dtype=torch.long)).shape[-1]
            subject.shortest = length
            return width
        except RaisedError as error:
            first = first or error
    raise first or RaisedError("nothing was tried")


def _vocabulary(subject: Subject, given: int | None) -> int:
    """The number of ids: as given, as the model declares, as its token table holds, or as wide as its logits."""
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int) or given < 2:
            raise RequestError(f"vocab_size: {given} given; replacing tokens needs 2 or more")
        size = given
    else:
        declared = [value for value in _declared(subject.model, ("vocab_size",)) if value >= 2]
        size = declared[0] if declared else _table_size(subject) or subject.outputs
    if size > subject.outputs:
        raise RequestError(f"vocab_size: {size} given, the model has logits for {subject.outputs} ids only")
    if size < 2:
        raise RequestError(f"model: {subject.name} has a vocabulary of {size}; replacing tokens needs 2 or more")
    try:
        subject.logits(torch.full((1, subject.shortest), size - 1))
    except RaisedError as error:
        raise RequestError(f"vocab_size: {size}; {subject.name} raised {error} on id {size - 1}") from error
    return size


def _table_size(subject: Subject) -> int | None:
    ids = torch.zeros(1, subject.shortest, dtype=torch.long, device=subject.device)
    mode = AtEmbedding(ids, lambda vectors: vectors)
    try:
        with subject.running() as model, mode:
            logits_of(model(ids), ids)
    except RaisedError:
        return None
    return min(mode.tables, default=None)


def _special_ids(subject: Subject, given: Sequence[int]) -> tuple[int, ...]:
    """0, 1, V - 1, those the model declares and those given, each once."""
    for value in given:
        if not 0 <= value < subject.vocab_size:
            raise RequestError(f"special_ids: {value} given; 0 to {subject.vocab_size - 1} would do")
    declared = [value for value in _declared(subject.model, _SPECIAL_NAMES) if 0 <= value < subject.vocab_size]
    return tuple(dict.fromkeys([*given, *declared, 0, 1, subject.vocab_size - 1]))


def _longest(subject: Subject, given: int | None, limit: int) -> int:
    """The most tokens to search: what is given, what the model declares or can run, at most `limit`."""
    if given is not None and (isinstance(given, bool) or given < 1):
        raise RequestError(f"max_length: {given} given; 1 or more would do")
    declared = [value for value in _declared(subject.model, _LENGTH_NAMES) if value > 0]
    length = min([limit, *([given] if given is not None else declared)])
    if _runs(subject, torch.zeros(1, length, dtype=torch.long)):
        return length
    if given is not None and given <= limit:
        raise RequestError(f"max_length: {given} given; {subject.name} raises on that many tokens")
    low, high = 0, length
    for trial in (8, 16, 32, 64, 128, 256):
        if low < trial < high and _runs(subject, torch.zeros(1, trial, dtype=torch.long)):
            low = trial
    while high - low > 1:
        middle = (low + high) // 2
        if _runs(subject, torch.zeros(1, middle, dtype=torch.long)):
            low = middle
        else:
            high = middle
    return max(low, 1)


def _multiple(subject: Subject) -> int:
    """The power of two whose multiples the model takes; 1 for a model that takes any length."""
    for size in (1, 2, 4, 8, 16, 32, 64, 128):
        lengths = [length for length in (3 * size, 5 * size) if length <= subject.longest]
        if lengths and all(_runs(subject, torch.zeros(1, length, dtype=torch.long)) for length in lengths):
            return size
    return 1


def _runs(subject: Subject, ids: Tensor) -> bool:
    try:
        subject.logits(ids)
    except RaisedError:
        return False
    return True


def _declared(model: nn.Module, names: Sequence[str]) -> list[int]:
    """The integers that the model or its `config` holds under these names, in the order of the names."""
    owners: list[Any] = [model, getattr(model, "config", None)]
    values = [getattr(owner, name, None) for name in names for owner in owners if owner is not None]
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return [value for value in flat if isinstance(value, int) and not isinstance(value, bool)]
