"""Shorter chunks for a model that fills short rows up to a whole chunk, where they make no difference to its logits.

Such a model takes as long for 4 tokens as for a chunk of 256. That a chunk's length makes no difference is seen, not
believed: where logits differ, it stays as it is.
"""

import torch

from assay.audit.subject.differences import change, spread
from assay.audit.subject.memory import Memory
from assay.audit.subject.subject import RaisedError, Subject
from assay.errors import RequestError

SHORT = 32
SAME = 1e-10
"""The largest difference, relative to the logits, that counts as rounding."""


def shorten_chunks(subject: Subject) -> None:
    """Shorten the chunks of the copy to SHORT tokens, where its logits stay as they are; `subject.chunks` is set.

    They are compared on a row of the most tokens that may be searched, and on one of the shortest length known.
    """
    subject.chunks = [
        (module, name, value)
        for module in subject.model.modules()
        for name, value in vars(module).items()
        if "chunk" in name and type(value) is int and value > SHORT
    ]
    if not subject.chunks or not subject.wide or not _same(subject, (subject.longest, subject.shortest)):
        _set(subject)
        subject.chunks = []
        return
    subject.memories[subject.weights] = Memory(subject.model)


def chunks_make_no_difference(subject: Subject) -> bool:
    """Whether the logits of a row of the longest length, with the weights in use, are the same with either length."""
    return _same(subject, (subject.longest,))


def _same(subject: Subject, counts: tuple[int, ...]) -> bool:
    """Whether logits are the same with chunks of SHORT tokens and of their own lengths, on rows of so many tokens.

    The chunks are SHORT afterwards.
    """
    generator = torch.Generator().manual_seed(13)
    try:
        for count in counts:
            ids, logits = torch.randint(subject.vocab_size, (1, count), generator=generator), []
            for value in (None, SHORT):
                _set(subject, value)
                logits.append(subject.logits(ids))
            if change(*logits).amax() > SAME * spread(logits[0]):
                return False
    except (RaisedError, RequestError):
        return False
    finally:
        _set(subject, SHORT)
    return True


def restore_chunks(subject: Subject) -> None:
    """Give the chunks their own lengths again, with all sets of weights."""
    weights = subject.weights
    for each in subject.memories:
        subject.use(each)
        _set(subject)
        subject.memories[each] = Memory(subject.model)
    subject.use(weights)
    subject.chunks = []


def _set(subject: Subject, value: int | None = None) -> None:
    """Set the length of every chunk, to its own where none is given."""
    subject.work.clear()
    for module, name, own in subject.chunks:
        setattr(module, name, own if value is None else value)
