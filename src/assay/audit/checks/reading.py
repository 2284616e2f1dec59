"""Which reading of a way to decode is the right one: the one that gives the logits of one forward.

Shapes: B batch, T tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from assay.audit.blame.tracer import leaves_of
from assay.audit.decoding.decoders import ROOM, Decoder, NoStateError
from assay.audit.probing.evidence import Change, largest_change
from assay.audit.probing.yardstick import Yardstick
from assay.audit.subject.differences import change
from assay.audit.subject.subject import RaisedError, Subject
from assay.errors import RequestError

PROMPT, STEPS = 5, 3
"""Tokens of the first piece, and single ones after it, by which a reading is judged."""
NARROW = 0.03
"""Relative changes up to this may come from a state that was made in a narrower type."""


class StatelessError(Exception):
    """What looked like decoding keeps nothing of the tokens before: there is nothing to compare."""


class UnreadError(Exception):
    """No reading of a way to decode ran; the text says what was raised."""


def decoded(
    subject: Subject, decoder: Decoder, ids: Tensor, whole: Tensor, lengths: Sequence[int], yardstick: Yardstick
) -> Change:
    """The largest difference between the logits `whole` [B, T, V] and those of `ids` [B, T] in pieces of `lengths`.

    Where the model keeps the state, on a fresh copy.
    """
    if not decoder.explicit:
        subject.memory.restore()
    with subject.running() as model:
        return largest_of(decoder.pieces(model, ids.to(subject.device), lengths), whole, yardstick)


def largest_of(pieces: Iterator[tuple[int, Tensor]], whole: Tensor, yardstick: Yardstick) -> Change:
    """The largest difference between `whole` [B, T, V] and pieces of it: (first position, logits [B, k, V])."""
    changes = [
        largest_change(whole[:, start : start + logits.shape[1]], logits, yardstick, start) for start, logits in pieces
    ]
    return max(changes, key=lambda found: found.excess)


def chosen(subject: Subject, readings: Sequence[Decoder], rows: Tensor, whole: Tensor, yardstick: Yardstick) -> Decoder:
    """The first reading that gives the logits `whole` [2, T, V] for the first of `rows` [2, T]; else one that runs.

    Two rows come first; one row where no reading takes two, or where the method takes a single number for its token.
    Where none is right they are tried again with every call of torch watched, as a cache may be of a narrow type.
    """
    while True:
        errors: list[Exception] = []
        found = _among(subject, readings, rows, whole, yardstick, errors)
        if found is not None and found[1].excess <= 1:
            return _continuing(subject, found[0], rows, whole, yardstick)
        narrow = found is None or found[1].moved <= NARROW * yardstick.scale
        if not (narrow and subject.wide and subject.asks_for_no_type):
            break
        subject.asks_for_no_type = False
    if found is None:
        cause = errors[0].__cause__
        if readings[0].fresh:  # a method of tokens alone, and nothing else that decodes
            raise StatelessError(f"{readings[0].convention} raised {errors[0]}")
        raise UnreadError(
            str(cause) if isinstance(cause, NoStateError) else f"{readings[0].convention} raised {errors[0]}"
        )
    if (found[0].guessed or not found[0].explicit) and not _depends(subject, found[0], rows):
        raise StatelessError(f"{found[0].convention} keep nothing of the tokens before")
    return found[0]


def _among(
    subject: Subject,
    readings: Sequence[Decoder],
    rows: Tensor,
    whole: Tensor,
    yardstick: Yardstick,
    errors: list[Exception],
) -> tuple[Decoder, Change] | None:
    """The reading that is right, or the best of those that run, with how far it is off."""

    def best(these: list[Decoder]) -> tuple[Decoder, Change] | None:
        found: tuple[Decoder, Change] | None = None
        for reading in these:
            subject.memory.restore()
            ids, lengths = rows[: reading.rows], _lengths(reading, rows.shape[1])
            try:
                off = decoded(subject, reading, ids, whole[: reading.rows], lengths, yardstick)
            except (RaisedError, RequestError) as error:
                errors.append(error)
                continue
            if found is None or off.excess < found[1].excess:
                found = reading, off
            if off.excess <= 1:
                break
        return found

    def right(found: tuple[Decoder, Change] | None) -> bool:
        return found is not None and found[1].excess <= 1

    together = best([reading for reading in readings if reading.rows > 1])
    if right(together):
        return together
    alone = best([reading for reading in readings if reading.rows == 1 and not reading.single])
    if together is None and alone is not None and right(alone):
        return alone
    numbers = None if right(alone) else best([reading for reading in readings if reading.single])
    return numbers if numbers is not None and right(numbers) else together or alone or numbers


def _lengths(reading: Decoder, most: int) -> list[int]:
    most = min(most, PROMPT if reading.longer == "none" else PROMPT + STEPS)
    return [1] * most if reading.longer == "none" or most <= STEPS else [most - STEPS] + [1] * STEPS


def _depends(subject: Subject, decoder: Decoder, rows: Tensor) -> bool:
    """Whether the logits of later tokens move when those of the first piece are others."""
    lengths = _lengths(decoder, rows.shape[1])
    last = []
    for ids in (rows, torch.cat([rows.roll(1, 1)[:, : lengths[0]], rows[:, lengths[0] :]], 1)):
        subject.memory.restore()
        with subject.running() as model:
            last.append(list(decoder.pieces(model, ids[: decoder.rows].to(subject.device), lengths))[-1][1])
    subject.memory.restore()
    return bool(change(*last).amax() > 0)


def _continuing(subject: Subject, decoder: Decoder, rows: Tensor, whole: Tensor, yardstick: Yardstick) -> Decoder:
    """The decoder; limited to single tokens after the first piece, where it takes no more and need not.

    A cache of keys and values may be meant for single tokens: a longer piece may then differ, but not read ahead. A
    recurrent state, or a method that is there to read many tokens, must take any piece.
    """
    if decoder.longer != "all" or rows.shape[1] < PROMPT + STEPS:
        return decoder
    ids, pieces = rows[: decoder.rows, : PROMPT + STEPS], [PROMPT, STEPS]
    try:
        if decoded(subject, decoder, ids, whole[: decoder.rows], pieces, yardstick).excess <= 1:
            return decoder
        other = ids.clone()
        other[:, -1] = (other[:, -1] + 1) % subject.vocab_size
        with subject.running() as model:
            runs = [list(decoder.states(model, part.to(subject.device), pieces)) for part in (ids, other)]
    except (RaisedError, RequestError):
        return replace(decoder, longer="first")
    finally:
        subject.memory.restore()
    logits = [run[-1][1][:, :-1] for run in runs]
    ahead = bool(change(*logits).amax() > 0) if logits[0].shape[1] else False
    first, last = (leaves_of(state).values() for _, _, state in runs[0])
    grown = sum(leaf.numel() for leaf in first) != sum(leaf.numel() for leaf in last)
    cached = grown or any(ROOM in leaf.shape for leaf in last)
    return replace(decoder, longer="first") if cached and not ahead and not decoder.promises else decoder
