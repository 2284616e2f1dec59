"""Makes the user's model a subject of the audit, and leaves the model exactly as it was."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.calling.batches import take_ids
from assay.audit.calling.lengths import Lengths
from assay.audit.calling.trial import lengths_taken, settle, settle_training, settle_unusually
from assay.audit.calling.ways import Calling
from assay.audit.subject import limits
from assay.audit.subject.arithmetic import wide
from assay.audit.subject.chunks import shorten_chunks
from assay.audit.subject.memory import Memory, reachable
from assay.audit.subject.subject import RaisedError, Subject
from assay.errors import RequestError
from assay.evaluation.generators import generators_put_back
from assay.plugins.blame import blamed


@contextmanager
def borrowed(
    model: nn.Module,
    vocab_size: int | None = None,
    special_ids: Sequence[int] = (),
    max_length: int | None = None,
    longest: int = 320,
    measured: bool = True,
    lengths: Any = None,
    shorter: bool = False,
) -> Iterator[Subject]:
    """A subject on a deep copy of `model`; where it cannot be copied, on the model itself, put back afterwards.

    The global random generators are put back too. `longest` is the most tokens to search where neither `max_length` nor
    the model sets a limit; `lengths` are the only ones to use. With `measured` the subject is tried out first: what it
    draws at random in training mode, which lengths it takes, and whether every call of torch must be watched to keep it
    in float64. A RequestError of one line where the model raises, or gives something else than logits. With `shorter`
    a model that fills short rows up to a chunk gets shorter chunks where they change no logit.
    """
    if not isinstance(model, nn.Module):
        raise RequestError(f"model: a {type(model).__name__} given; a torch.nn.Module from ids to logits would do")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise RequestError(f"model: {type(model).__name__} is on the meta device, without values; loaded, it would do")
    with generators_put_back():
        try:
            working = copy.deepcopy(model)
        except (Exception, SystemExit):  # code from outside assay: its __deepcopy__ may raise anything
            working = model
        # What a copy shares with the model (all of it where it cannot be copied; closures) is put back afterwards.
        theirs = {id(value) for value in reachable(model)}
        borrowed_memory = Memory(*(value for value in reachable(working) if id(value) in theirs))
        try:
            only = limits.given_lengths(lengths)
            take_ids(working)
            subject = _running_subject(working, only)
            subject.vocab_size = limits.vocabulary(subject, vocab_size)
            subject.special_ids = limits.special_ids(subject, special_ids)
            top = max(only) if only else limits.most_tokens(subject, max_length, longest)
            subject.takes = Lengths(tuple(sorted(set(only))) if only else range(1, top + 1))  # before they are tried
            if shorter and limits.pads(subject):  # before other calls, as each takes as long as one of a whole chunk
                shorten_chunks(subject)
            if measured:
                subject.takes = lengths_taken(subject, only, max_length, top)
                settle_training(subject)
            else:
                subject.takes = Lengths(range(1, limits.longest(subject, top, max_length) + 1))
            subject.memory.restore()
            for training in (False, True) if measured and subject.trains else (False,):
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


def _running_subject(model: nn.Module, lengths: Sequence[int] | None) -> Subject:
    """The subject in float64 where the model runs in that, else in its own type, at usual lengths or any."""
    subject = Subject(model)
    for parameter in model.parameters():
        parameter.grad = None
    narrow = [(value, value.data) for value in reachable(model) if isinstance(value, Tensor)]
    why: RaisedError | RequestError | None = None

    def runs(in_float64: bool, lengths: Sequence[int] | None, ways: Sequence[Calling] = ()) -> bool:
        nonlocal why
        for tensor, values in narrow:
            tensor.data = wide(values) if in_float64 else values
        subject.wide, subject.memories["given"] = in_float64, Memory(model)
        try:
            settle(subject, lengths, ways)
        except (RaisedError, RequestError) as error:
            why = error
            return False
        subject.narrow = [(tensor, values) for tensor, values in narrow if tensor.dtype != values.dtype]
        return True

    if runs(True, lengths) or runs(False, lengths):
        return subject
    needs = "an audit needs a module from ids [B, T] to logits [B, T, V]"
    option = "model" if lengths is None else "lengths"
    if isinstance(why, RequestError):
        raise why
    if lengths is None and settle_unusually(subject):
        calling, length = subject.callings[False], subject.shortest
        found = [length, max(1, length - 1)], [calling] if calling.batch else []
        if runs(True, *found) or runs(False, *found):
            return subject
    raise RequestError(f"{option}: {subject.name} raised {why}; {needs}") from why


def _asks_for_no_type(subject: Subject) -> bool:
    """Whether the copy gives the same logits to the last bit, in both modes, when no call of torch is watched.

    This is asked on a few tokens. On more, the yardstick compares a run that is watched with one that is not: code that
    asks for a narrow type only there raises the threshold.
    """
    if not subject.wide or subject.narrow_seen:
        return False
    generator = torch.Generator().manual_seed(0)
    for training in (False, True) if subject.trains else (False,):
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
