"""Finds by trying how a model is called and which numbers of tokens it takes.

Shapes: B batch, T tokens.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from assay.audit.calling.lengths import MORE, Lengths
from assay.audit.calling.ways import Calling, OtherLengthError, callings, unguessable
from assay.audit.subject import limits
from assay.audit.subject.subject import RaisedError, Subject, is_the_users
from assay.errors import RequestError

USUAL = (8, 16, 64, 256, 384, 1)
"""Lengths tried first; 384 is a multiple of 24, 32, 48, 96 and 128."""
EACH = 1025
"""Every length up to this is tried where no usual one runs, and then the larger sizes of tables and buffers."""
BATCHES = (2, 4, 8, 16, 32, 64)
"""Numbers of rows tried where a single row does not run."""


def settle(subject: Subject, given: Sequence[int] | None = None, ways: Sequence[Calling] = ()) -> None:
    """Find a way to call the model, and a length, at which it gives logits; set the subject's accordingly.

    The length is one of those `given`, or a usual one; the way one of `ways`, or any. Where none works, raises what the
    plainest way raised: a RaisedError, or the RequestError of a model that gives something else.
    """
    first: RaisedError | RequestError | None = None
    tried = ways or callings(subject.model)
    for calling in tried:
        subject.callings = {False: calling, True: calling}
        for length in given or _usual(subject):
            try:
                subject.outputs = _width(subject, length)
                _settled(subject, length)
                return
            except OtherLengthError as error:
                first = first or error
            except RequestError as error:  # gives something else than logits, as it would at any length
                first = error if first is None or isinstance(first, RaisedError) else first
                break
            except RaisedError as error:
                first = first or error
    name = next((way.targets for way in tried if way.guessed), None)
    raise (first or RaisedError("nothing was tried")) if name is None else unguessable(subject.model, name)


def settle_unusually(subject: Subject) -> bool:
    """Find an unusual number of rows, or a length at which the model gives anything; whether one was found."""
    if _in_batches(subject):
        return True
    for calling in (way for way in callings(subject.model) if not way.captured):
        subject.callings = {False: calling, True: calling}
        length = _first_that_runs(subject, _unusual(subject))
        if length is not None:
            subject.shortest = length
            return True
    return False


def _first_that_runs(subject: Subject, lengths: Iterable[int]) -> int | None:
    with subject.running():
        for length in lengths:
            try:
                subject.called(torch.zeros(1, length, dtype=torch.long, device=subject.device))
                return length
            except OtherLengthError:
                continue
            except RequestError:  # something else than logits, such as a loss
                return length
            except BaseException as error:  # a thousand attempts: `subject.running` around each takes seconds
                if is_the_users(error):
                    raise
    return None


def _settled(subject: Subject, length: int) -> None:
    """Note the length, whether two rows can be called at once, and how the model is called in training mode."""
    subject.shortest = length
    calling = subject.callings[False]
    subject.alone |= calling.flat
    if not (calling.flat or calling.batch) and not _runs(subject, length, 2):
        calling, subject.alone = replace(calling, alone=True), True
        subject.callings = {False: calling, True: calling}


def settle_training(subject: Subject) -> None:
    """Find a way to call the model in training mode, without gradients where it has none; or note that there is none.

    Some models give a loss alone in training mode, and logits otherwise.
    """
    why: Exception | None = None
    plain = subject.callings[False]
    for calling in (plain, *(replace(way, alone=plain.alone, batch=plain.batch) for way in callings(subject.model))):
        subject.callings[True] = calling
        for subject.differentiable in (True, False):
            try:
                subject.memory.restore()
                _width(subject, subject.shortest, training=True)
            except (RaisedError, RequestError) as error:
                why = why or error
                continue
            if not subject.differentiable:
                subject.unsearched["gradients"] = str(why).removesuffix(" (in training mode)")
            return
    subject.callings[True], subject.trains = plain, False
    subject.unsearched["training mode"] = str(why).removesuffix(" (in training mode)").removeprefix("model: ")


def _width(subject: Subject, length: int, rows: int = 1, training: bool = False) -> int:
    ids = torch.zeros(rows, length, dtype=torch.long)
    return subject.logits(ids, training).shape[-1]


def _runs(subject: Subject, length: int, rows: int = 1) -> bool:
    try:
        _width(subject, length, rows)
    except (RaisedError, RequestError):
        return False
    return True


def _usual(subject: Subject) -> Iterator[int]:
    declared = limits.declared_lengths(subject.model)
    yield from dict.fromkeys((*USUAL[:-1], *declared, USUAL[-1]))


def _unusual(subject: Subject) -> Iterator[int]:
    yield from range(2, EACH)
    tensors = (*subject.model.parameters(), *subject.model.buffers())
    sizes = Counter(size for tensor in tensors for size in set(tensor.shape) if size >= EACH)
    yield from [size for size, _ in sizes.most_common(8)]
    yield from (2048, 4096)


def _in_batches(subject: Subject) -> bool:
    """Whether the model runs with some other number of rows than one; the subject then fills its calls up to that."""
    for rows in BATCHES:
        calling = Calling(batch=rows)
        subject.callings = {False: calling, True: calling}
        for length in _usual(subject):
            if _runs(subject, length):
                subject.outputs, subject.shortest = _width(subject, length), length
                return True
    return False


def lengths_taken(subject: Subject, given: Sequence[int] | None, max_length: object, top: int) -> Lengths:
    """The lengths to search: those `given`, or those up to `top`, which `max_length` may have set.

    Where the model takes none so short, its shortest, and twice that.
    """
    if given is not None:
        return _as_given(subject, given, max_length)
    few = [length for length in (1, *MORE) if length < top]
    if top <= 2 or all(_runs(subject, length) for length in few):
        return Lengths(range(1, limits.longest(subject, top, max_length) + 1))
    if subject.shortest <= top:
        return _from_some_length_on(subject, top, max_length) or _multiples(subject, top) or _each(subject, top)
    multiples = _multiples(subject, top)
    if multiples is None and max_length is not None:
        raise RequestError(
            f"max_length: {max_length} given; {subject.name} raises on so few tokens; {subject.shortest} would do"
        )
    return multiples or Lengths(tuple(n for n in (subject.shortest, 2 * subject.shortest) if _runs(subject, n)))


def _as_given(subject: Subject, given: Sequence[int], max_length: object) -> Lengths:
    if max_length is not None:
        raise RequestError("max_length: given together with lengths; one of them would do")
    for length in given:
        try:
            _width(subject, length)
        except RaisedError as error:
            raise RequestError(f"lengths: {length} given; {subject.name} raised {error} on that many tokens") from error
    return Lengths(tuple(sorted(set(given))))


def _from_some_length_on(subject: Subject, top: int, max_length: object) -> Lengths | None:
    """All lengths between two, if the shortest known is followed by others that run."""
    least = subject.shortest
    near = [n for n in range(least + 1, least + 4) if n <= top] or [least - 1]
    if not all(_runs(subject, n) for n in (*near, *(n for n in MORE if least <= n < top))):
        return None
    low, high = 0, least
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _runs(subject, middle) else (middle, high)
    last = limits.longest(subject, top, max_length, high)
    return Lengths(range(high, last + 1)) if last - high >= 3 else None


def _multiples(subject: Subject, top: int) -> Lengths | None:
    """The multiples of a divisor of the shortest length known, if those and none beside them run."""
    for size in (size for size in range(2, subject.shortest + 1) if subject.shortest % size == 0):
        trials = [n for n in (size, 2 * size, 3 * size) if n <= top]
        if len(trials) < 2 or not all(_runs(subject, n) for n in trials) or _runs(subject, size + 1):
            continue
        last = top // size
        while last > 3 and not _runs(subject, last * size):  # beyond the most that it takes
            last -= 1
        return Lengths((*([1] if _runs(subject, 1) else []), *range(size, last * size + 1, size)))
    return None


def _each(subject: Subject, top: int) -> Lengths:
    """Every length up to `top` is tried."""
    taken = tuple(length for length in range(1, top + 1) if _runs(subject, length))
    if taken == (1,):
        limits.raised_on_two(subject)
    return Lengths(taken)
