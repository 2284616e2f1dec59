"""The ways in which a model may decode, read off the signatures of its `forward` and of its other methods.

Each way has several readings (is the token [B] or [B, 1]? does the state begin as None, or by a method?); which of them
is right is found by trying. Shapes: B batch, T tokens.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from assay.audit.calling.signatures import parameters_of
from assay.audit.decoding.decoders import Advance, Begin, Decoder, Longer
from assay.audit.decoding.readings import NAMES_OF_TRANSFORMERS, InferenceParams, PositionForm, Reading, TokenForm
from assay.audit.decoding.roles import Roles, arguments_to_begin, methods, roles_of
from assay.audit.subject.statics import is_own_class
from assay.audit.subject.subject import Decode

_STATE_CLASS = re.compile(r"(cache|state|memory|past|kv|params)s?$", re.IGNORECASE)


class _Start(NamedTuple):
    """How a state begins; `words` name the method that makes it; it is `guessed` where nothing says that it is one."""

    words: str = ""
    begin: Begin | None = None
    guessed: bool = False


@dataclass(frozen=True)
class Habits:
    """`ways`: each a list of readings, of which one is right; `unread`: what looks like decoding and was not read."""

    ways: list[list[Decoder]]
    unread: list[str]


def habits(model: nn.Module, outputs: int, decode: Decode | None = None) -> Habits:
    """How `model`, whose logits have `outputs` entries, can decode; by `decode` alone where it is given."""
    if decode is not None:

        def given(model: nn.Module, ids: torch.Tensor, state: Any, _: int) -> tuple[torch.Tensor, Any]:
            logits, state = decode(model, ids, state)
            return (logits[:, None] if logits.ndim == 2 else logits), state

        return Habits([[Decoder("`decode`", given, given, "first")]], [])
    unread: list[str] = []
    steps = [roles for name in methods(model, "step") if (roles := _readable(model, name, True, unread))]
    prefills = [roles for name in methods(model, "prefill") if (roles := _readable(model, name, False, unread))]
    begins = list(methods(model, "begin"))
    ways = [way for roles in steps for way in _of_step(model, roles, prefills, begins, outputs)]
    forward = _readable(model, "forward", False, unread)
    if forward is not None and (forward.states or (not ways and (forward.positions or forward.flags))):
        ways += _of_forward(model, forward, begins, outputs)
    if not ways:
        ways += [way for roles in prefills for way in _of_forward(model, roles, begins, outputs)]
    return Habits([way for way in ways if way], unread)


def _readable(model: nn.Module, method: str, stepping: bool, unread: list[str]) -> Roles | None:
    roles = roles_of(model, method, stepping)
    if roles is None or not roles.unknown:
        return roles
    if method != "forward":
        unread.append(f"`{method}` needs `{roles.unknown[0]}`")
    return None


def _of_step(
    model: nn.Module, step: Roles, prefills: Sequence[Roles], begins: Sequence[str], outputs: int
) -> Iterator[list[Decoder]]:
    """A way for each method that reads a prompt first, and one for each that makes an empty state."""
    held, reset = not step.states, _resetting(model)
    preparing = _preparing(begins) if held else None
    forms: tuple[TokenForm, ...] = ("int", "number") if step.one_number else ("vector", "column")
    positions = _positions(step, held)
    together = [Reading(step, form, position, outputs) for position in positions for form in forms]
    every: tuple[TokenForm, ...] = ("vector", "column", "number", "int")
    alone = [Reading(step, form, position, outputs) for position in positions for form in every]
    readings = [*((later, 1 if step.one_number else 2) for later in together), *((later, 1) for later in alone)]

    def decoders(words: str, first: Reading | None, continues: bool, start: _Start) -> Iterator[Decoder]:
        anew = first is None and reset is None and preparing is None and not step.positions
        for later, rows in readings:
            yield Decoder(
                words,
                later if first is None else first,
                _either(later, first) if first is not None and continues else later,
                "none" if first is None else "all" if continues else "first",
                begin=start.begin or preparing,
                reset=reset if held else None,
                explicit=not held,
                guessed=start.guessed,
                rows=rows,
                fresh=held and anew,
                single=later.tokens in ("number", "int"),
                promises=continues,
                method=step.method,
            )

    for prefill in prefills:
        roles = prefill if prefill.states else replace(prefill, states=step.states, needed=())
        firsts = [Reading(roles, "rows", form, outputs) for form in _positions(prefill, not prefill.states)]
        words = f"`{prefill.method}` and `{step.method}`"
        continues = bool(prefill.states) and not prefill.needed
        starts = _starts(model, prefill, begins)
        yield [each for first in firsts for start in starts for each in decoders(words, first, continues, start)]
    if held:
        yield [] if prefills else list(decoders(f"`{step.method}`", None, False, _Start()))
        return
    starts = _starts(model, step, begins)
    made = [start for start in starts if start.words]
    for start in made:
        yield list(decoders(f"{start.words} and `{step.method}`", None, False, start))
    if made or prefills:
        return
    way = [each for start in starts for each in decoders(f"`{step.method}`", None, False, start)]
    forward = roles_of(model, "forward", False)
    if forward is not None and not forward.unknown:
        first = Reading(replace(forward, states=step.states, needed=()), "rows", "none", outputs)
        way += decoders(f"`forward` and `{step.method}`", first, False, _Start())
    yield way


def _either(one: Advance, several: Advance) -> Advance:
    """Single tokens by `one`, longer pieces by `several`."""

    def advance(model: nn.Module, ids: torch.Tensor, state: Any, start: int) -> tuple[torch.Tensor, Any]:
        return (one if ids.shape[1] == 1 else several)(model, ids, state, start)

    return advance


def _of_forward(model: nn.Module, roles: Roles, begins: Sequence[str], outputs: int) -> Iterator[list[Decoder]]:
    """A `forward` that takes a state and returns it, or that keeps one on the model and takes a position or a flag."""
    held = not roles.states
    reset = _resetting(model)
    asked = roles.flags[0] if roles.flags else roles.method
    words = f"`{asked}` and `{roles.states[0]}`" if not held else f"`{roles.method}` and `{asked}`"
    if held and roles.positions:
        words = f"`{roles.method}` and `{roles.positions[0]}`"
    special = not held and roles.states[0] == "inference_params"
    way = []
    taking = [roles, *(replace(roles, states=(name,)) for name in roles.optional if not roles.needed)]
    for rows, taken in [(rows, taken) for rows in (2, 1) for taken in taking]:
        for start in [_Start()] if held else _starts(model, taken, begins):
            for form in _positions(taken, held):
                reading = Reading(taken, "rows", form, outputs)
                longer: Longer = "first" if roles.flags or held or special else "all"
                way.append(
                    Decoder(
                        words,
                        reading,
                        reading,
                        longer,
                        begin=start.begin or (_preparing(begins) if held else None),
                        reset=reset if held else None,
                        explicit=not held,
                        guessed=start.guessed,
                        rows=rows,
                        fresh=held and reset is None and not roles.positions,
                        method=roles.method,
                    )
                )
    yield way


def _positions(roles: Roles, held: bool) -> list[PositionForm]:
    """The forms in which a position may be given; without it where it need not, and the state may know it."""
    if not roles.positions:
        return ["none"]
    if set(roles.positions) <= set(NAMES_OF_TRANSFORMERS):
        return ["table", "none"]
    forms: list[PositionForm] = ["number", "range", "each", "scalar", "table"]
    return forms if roles.position_needed or held else [*forms, "none"]


def _starts(model: nn.Module, roles: Roles, begins: Sequence[str]) -> list[_Start]:
    """How the state may begin: by methods of the model, left out, or as something empty."""
    if not roles.states:
        return [_Start()]
    if roles.states[0] == "inference_params":
        return [_Start("", _parameters(name), guessed=True) for name in ("", *begins)]
    starts = []
    for name in begins:
        for room in (False, True):
            start = _made_by(model, name, room)
            if start is not None:
                starts.append(_Start(f"`{name}`{' with a capacity' if room else ''}", start))
    if not roles.needed:
        starts = [_Start(), *starts] if roles.method == "forward" else [*starts, _Start()]
    if len(roles.states) == 1:
        layers = max((len(m) for m in model.modules() if isinstance(m, nn.ModuleList)), default=1)
        empty: list[Begin] = [*_objects(model, layers), lambda *_: {}, lambda *_: [], lambda *_: [None] * layers]
        starts += [_Start("", make, guessed=True) for make in (*empty, lambda *_: [{} for _ in range(layers)])]
        starts += [_Start("", lambda *_: None)] if roles.needed else []
    return starts


def _objects(model: nn.Module, layers: int) -> Iterator[Begin]:
    """Objects of the classes for states that stand beside the model's own class, one in all or one for each layer."""
    places = dict.fromkeys(kind.__module__ for kind in type(model).__mro__ if is_own_class(kind))
    known = [vars(sys.modules[place]) for place in places if place in sys.modules]
    kinds = [kind for names in known for kind in names.values() if is_own_class(kind)]
    for kind in kinds:
        given = arguments_to_begin(kind, 2, 2, layers)
        if given is None or issubclass(kind, nn.Module) or not _STATE_CLASS.search(kind.__name__):
            continue

        def make(_: nn.Module, rows: int, tokens: int, kind: type = kind) -> Any:
            return kind(**(arguments_to_begin(kind, rows, tokens, layers) or {}))

        yield make
        yield _in_each(make, layers)


def _in_each(make: Begin, layers: int) -> Begin:
    """A list of as many states as there are layers."""
    return lambda model, rows, tokens: [make(model, rows, tokens) for _ in range(layers)]


def _made_by(model: nn.Module, name: str, room: bool) -> Begin | None:
    """A state made by a method of the model, with room for a number of tokens or without a limit."""
    function = getattr(model, name)
    least = arguments_to_begin(function, 2, 2)
    if least is None:
        return None
    free = [key for key, parameter in parameters_of(function).items() if parameter.default is None]
    optional = [key for key in least if key in free]
    if room and not optional:
        return None

    def begin(model: nn.Module, rows: int, tokens: int) -> Any:
        given = arguments_to_begin(getattr(model, name), rows, tokens) or {}
        return getattr(model, name)(**(given if room else {k: v for k, v in given.items() if k not in optional}))

    return begin


def _parameters(method: str) -> Begin:
    """A state called inference_params, its memory made by a method of the model where one is named."""

    def begin(model: nn.Module, rows: int, tokens: int) -> Any:
        made = InferenceParams(tokens, rows)
        if method:
            given = arguments_to_begin(getattr(model, method), rows, tokens) or {}
            made.key_value_memory_dict = getattr(model, method)(**given)
        return made

    return begin


def _preparing(begins: Sequence[str]) -> Begin | None:
    """Calls the methods that make room on the model itself, such as `setup_caches`, before a sequence."""
    if not begins:
        return None

    def begin(model: nn.Module, rows: int, tokens: int) -> None:
        for name in begins:
            given = arguments_to_begin(getattr(model, name), rows, tokens)
            if given is not None:
                getattr(model, name)(**given)

    return begin


def _resetting(model: nn.Module) -> Callable[[nn.Module], None] | None:
    """Calls the model's own methods that forget a sequence, such as `reset_cache`; None where there are none."""
    names = [name for name in methods(model, "reset") if arguments_to_begin(getattr(model, name), 1, 1) is not None]
    if not names:
        return None

    def reset(model: nn.Module) -> None:
        for name in names:
            getattr(model, name)(**(arguments_to_begin(getattr(model, name), 1, 1) or {}))

    return reset
