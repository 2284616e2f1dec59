"""Makes the user's model a subject of the audit, and leaves the model exactly as it was."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from assay.audit.subject import limits
from assay.audit.subject.arithmetic import wide
from assay.audit.subject.chunks import shorten_chunks
from assay.audit.subject.memory import Memory, reachable
from assay.audit.subject.subject import RaisedError, Subject
from assay.errors import RequestError
from assay.evaluation.generators import generators_put_back
from assay.plugins.blame import blamed

TRIAL_LENGTHS = (8, 16, 64, 256, 1)


@contextmanager
def borrowed(
    model: nn.Module,
    vocab_size: int | None = None,
    special_ids: Sequence[int] = (),
    max_length: int | None = None,
    longest: int = 320,
    measured: bool = True,
    shorter: bool = False,
) -> Iterator[Subject]:
    """A subject on a deep copy of `model`; where it cannot be copied, on the model itself, put back afterwards.

    The global random generators are put back too. `longest` is the most tokens to search where neither `max_length` nor
    the model sets a limit. With `measured` the subject is tried out first: what it draws at random in training mode,
    which lengths it takes, and whether every call of torch must be watched to keep it in float64. With `shorter`
    a model that fills short rows up to a chunk gets shorter chunks where they change no logit. A RequestError of one
    line where the model raises, or gives something else than logits.
    """
    if not isinstance(model, nn.Module):
        raise RequestError(f"model: a {type(model).__name__} given; a torch.nn.Module from ids to logits would do")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise RequestError(f"model: {type(model).__name__} is on the meta device, without values; loaded, it would do")
    with generators_put_back():
        try:
            working = copy.deepcopy(model)
        except Exception:  # code from outside assay: its __deepcopy__ may raise anything
            working = model
        # What a copy shares with the model (all of it where it cannot be copied; closures) is put back afterwards.
        theirs = {id(value) for value in reachable(model)}
        borrowed_memory = Memory(*(value for value in reachable(working) if id(value) in theirs))
        try:
            subject = _running_subject(working)
            subject.vocab_size = limits.vocabulary(subject, vocab_size)
            subject.special_ids = limits.special_ids(subject, special_ids)
            subject.longest = limits.longest(subject, max_length, longest)
            if shorter and limits.pads(subject):
                shorten_chunks(subject)
            subject.multiple = limits.multiple(subject) if measured else 1
            subject.memory.restore()
            for training in (False, True) if measured else (False,):
                for dropout in (True, False):
                    subject.draws(training, dropout)
            if measured:
                subject.asks_for_no_type = _asks_for_no_type(subject)
            yield subject
        except RaisedError as error:
            told = blamed(error) or f"model: {type(model).__name__} raised {error} during the audit"
            raise RequestError(told) from error
        finally:
            borrowed_memory.restore()


def _running_subject(model: nn.Module) -> Subject:
    """The subject in float64 where the model runs in that, else in its own type."""
    subject = Subject(model)
    for parameter in model.parameters():
        parameter.grad = None
    narrow = [(value, value.data) for value in reachable(model) if isinstance(value, Tensor)]
    for tensor, values in narrow:
        tensor.data = wide(values)
    subject.memories["given"] = Memory(model)
    try:
        subject.outputs = _outputs(subject)
        subject.narrow = [(tensor, values) for tensor, values in narrow if tensor.dtype != values.dtype]
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
    """The width of the logits, from the first length at which the model runs; it becomes the subject's `shortest`."""
    first = None
    for length in TRIAL_LENGTHS:
        try:
            width = subject.logits(torch.zeros(1, length, dtype=torch.long)).shape[-1]
            subject.shortest = length
            return width
        except RaisedError as error:
            first = first or error
    raise first or RaisedError("nothing was tried")


def _asks_for_no_type(subject: Subject) -> bool:
    """Whether the copy gives the same logits to the last bit, in both modes, when no call of torch is watched.

    This is asked on a few tokens. On more, the yardstick compares a run that is watched with one that is not: code that
    asks for a narrow type only there raises the threshold.
    """
    if not subject.wide or subject.narrow_seen:
        return False
    generator = torch.Generator().manual_seed(0)
    for training in (False, True):
        ids, logits = torch.randint(subject.vocab_size, (2, subject.shortest), generator=generator), []
        try:
            for subject.asks_for_no_type in (False, True):
                subject.memory.restore()
                logits.append(subject.logits(ids, training, dropout=False))
        except RaisedError:  # some of torch's functions, such as grouped_mm, have no float64 form
            return False
        finally:
            subject.asks_for_no_type = False
            subject.memory.restore()
        if not torch.equal(*logits):
            return False
    return True
