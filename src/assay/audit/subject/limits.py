"""What inputs a model takes (ids, special ids, lengths): as the user says, as the model declares, or found by trial."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.subject.embedding import InBounds
from assay.audit.subject.subject import RaisedError, Subject
from assay.audit.subject.usual_ids import usual_ids
from assay.errors import RequestError

_LENGTH_NAMES = ("max_positions", "max_position_embeddings", "n_positions", "n_ctx", "block_size", "max_seq_len")
_SPECIAL_NAMES = ("bos_token_id", "eos_token_id", "pad_token_id")


def integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int (NumPy's and torch's integers too); otherwise a RequestError that names the option."""
    wanted = f"{least} or more" if most is None else f"{least} to {most}"
    try:
        found = operator.index(value)
    except (TypeError, RuntimeError):
        found = None
    if found is None or isinstance(value, bool):
        raise RequestError(f"{name}: {_shown(value)} given; a whole number, {wanted}, would do")
    if found < least or (most is not None and found > most):
        raise RequestError(f"{name}: {found} given; {wanted} would do")
    return found


def vocabulary(subject: Subject, given: Any) -> int:
    """The number of ids: as given, as the model declares, or as many of the ids with logits as it takes as input."""
    if given is not None:
        size = integer("vocab_size", given, 2)
    else:
        declared = [value for value in _declared(subject.model, ("vocab_size",)) if value >= 2]
        size = declared[0] if declared else _taken(subject)
    if size > subject.outputs:
        raise RequestError(f"vocab_size: {size} given, the model has logits for {subject.outputs} ids only")
    if size < 2:
        raise RequestError(f"model: {subject.name} has a vocabulary of {size}; replacing tokens needs 2 or more")
    try:
        subject.logits(torch.full((1, subject.shortest), size - 1))
    except RaisedError as error:
        raise RequestError(f"vocab_size: {size}; {subject.name} raised {error} on id {size - 1}") from error
    return size


def _taken(subject: Subject) -> int:
    """The number of ids from 0 on that the model takes as input; by bisection where it is fewer than it has logits for.

    The size of its embedding table is no answer: some tables are indexed by a part of an id, or have unused rows.
    """
    low, high = 0, subject.outputs
    if _takes(subject, high - 1):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _takes(subject, middle - 1) else (low, middle)
    return low or subject.outputs


def _takes(subject: Subject, id_: int) -> bool:
    try:
        with InBounds():
            subject.logits(torch.full((1, subject.shortest), id_))
    except RaisedError:
        return False
    return True


def special_ids(subject: Subject, given: Any) -> tuple[int, ...]:
    """The special ids, each once: those given, those that the model declares, 0, 1, V - 1, and usual separators."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise RequestError(f"special_ids: {_shown(given)} given; a list of ids would do")
    most = subject.vocab_size - 1
    wanted = [integer("special_ids", value, 0, most) for value in given]
    declared = [value for value in _declared(subject.model, _SPECIAL_NAMES) if 0 <= value <= most]
    return tuple(dict.fromkeys([*wanted, *declared, 0, 1, most, *usual_ids(subject.vocab_size)]))


def padding_id(subject: Subject) -> int | None:
    """The id that the model declares as padding, if it serves nothing else: a loss or positions may leave it out."""
    config = _held(subject.model, "config")
    pad, bos, eos = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos"))
    taken = [bos, *(eos if isinstance(eos, list | tuple) else [eos])]
    inside = isinstance(pad, int) and 0 <= pad < subject.vocab_size
    return pad if inside and pad not in taken else None


def declared_lengths(model: nn.Module) -> list[int]:
    """The numbers of tokens that the model declares as the most that it takes."""
    return [value for value in _declared(model, _LENGTH_NAMES) if value > 0]


def most_tokens(subject: Subject, given: Any, limit: int) -> int:
    """The most tokens to search: what is given, or else what the model declares, and at most `limit`.

    What it declares is its limit only if it raises beyond: a rotation that is rescaled there is searched too.
    """
    if given is not None:
        return min(limit, integer("max_length", given, 1))
    declared = min([limit, *declared_lengths(subject.model)])
    return limit if declared < limit and _runs_beyond(subject, limit) else declared


def longest(subject: Subject, top: int, given: Any, least: int = 0) -> int:
    """The most tokens up to `top` that the model runs on, which takes `least` and all lengths in between."""
    if runs(subject, top):
        return top
    if given == top:
        raise RequestError(f"max_length: {given} given; {subject.name} raises on that many tokens")
    low, high = least, top
    for trial in (8, 16, 32, 64, 128, 256):
        if low < trial < high and runs(subject, trial):
            low = trial
    while high - low > 1:
        middle = (low + high) // 2
        if runs(subject, middle):
            low = middle
        else:
            high = middle
    if low < 2 <= top:
        raised_on_two(subject)
    return max(low, 1)


def raised_on_two(subject: Subject) -> None:
    """A RequestError with what the model raises on two tokens: an audit of single tokens would find nothing."""
    try:
        subject.logits(torch.zeros(1, 2, dtype=torch.long))
    except RaisedError as error:
        words = f"raised {error} on 2 tokens, and on every other number tried but one"
        raise RequestError(f"model: {subject.name} {words}; max_length=1 would audit what is left") from error


MUCH_MORE = 1.5
"""How much more work 16 times as many tokens are at least, where rows are not filled up."""


def calls_per_token(subject: Subject) -> float:
    """How many more calls of torch one more token causes, as a loop over tokens does; 0 if calls are not watched."""
    few = subject.takes.fit(4)
    more = subject.takes.fit(2 * few)
    calls = [_work(subject, tokens)[0] for tokens in (few, more)]
    return max(0.0, (calls[1] - calls[0]) / (more - few)) if more > few and all(calls) else 0.0


def pads(subject: Subject) -> bool:
    """Whether the model fills rows up: 64 tokens are hardly more work than 4, counted in elements of tensors."""
    few = subject.takes.fit(4)
    elements = _work(subject, few)[1]
    for tokens in (2 * few, 16 * few):  # most models are told apart by the first
        if subject.takes.fit(tokens) != tokens or not elements or _work(subject, tokens)[1] > MUCH_MORE * elements:
            return False
    return True


def _work(subject: Subject, tokens: int) -> tuple[int, int]:
    """(calls of torch, elements of the tensors they return) of a row of so many tokens; (0, 0) if it raises."""
    if tokens not in subject.work:
        quick, subject.asks_for_no_type = subject.asks_for_no_type, False
        before = subject.calls, subject.elements
        try:
            taken = runs(subject, tokens)
        except RequestError:  # logits of other tokens
            taken = False
        subject.asks_for_no_type = quick
        subject.work[tokens] = (subject.calls - before[0], subject.elements - before[1]) if taken else (0, 0)
    return subject.work[tokens]


def given_lengths(value: Any) -> tuple[int, ...] | None:
    """The lengths that the user names: one, or several."""
    if value is None:
        return None
    several = value if isinstance(value, Iterable) and not isinstance(value, str | Tensor) else [value]
    found = tuple(integer("lengths", each, 1) for each in several)
    if not found:
        raise RequestError("lengths: none given; a number of tokens, or several, would do")
    return found


def _runs_beyond(subject: Subject, length: int) -> bool:
    """Whether the model takes `length` tokens, more than it declares, and gives logits for each."""
    try:
        with InBounds():
            return runs(subject, length)
    except RequestError:  # logits of other tokens: it keeps the last ones, say
        return False


def runs(subject: Subject, length: int) -> bool:
    """Whether the model takes `length` tokens in eval mode."""
    try:
        subject.logits(torch.zeros(1, length, dtype=torch.long))
    except RaisedError:
        return False
    return True


def _declared(model: nn.Module, names: Sequence[str]) -> list[int]:
    """The integers that the model or its `config` holds under these names, in the order of the names."""
    owners: list[Any] = [model, _held(model, "config")]
    values = [_held(owner, name) for name in names for owner in owners if owner is not None]
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return [value for value in flat if isinstance(value, int) and not isinstance(value, bool)]


def _held(owner: Any, name: str) -> Any:
    """An attribute; None where there is none, or where code from outside assay raises."""
    try:
        return getattr(owner, name, None)
    except Exception:
        return None


def _shown(value: Any) -> str:
    """A value as text, shortened."""
    text = f"a {type(value).__name__}" if isinstance(value, Tensor | nn.Module) else repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
