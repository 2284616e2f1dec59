"""What the arguments of a model's methods are for, told by their names: tokens, a state, a position, or a flag."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from assay.audit.calling.signatures import parameters_of

STATES = (
    *("past_key_values", "cache_params", "state", "states", "hidden", "hx", "h", "h0", "hc", "mems", "memory", "carry"),
    *("prev", "past", "layer_past", "present"),
)
"""Usual names of the state among the arguments, the likeliest first."""
_PARTS = ("past", "cache", "kv", "state", "mems", "hidden", "carry", "inference_params", "memories", "context")
"""Parts of names by which an argument is taken for the state, unless it also contains one of _NO_STATE."""
_NO_STATE = (
    *("mask", "position", "return", "output", "use_", "label", "target", "embed", "encoder", "update", "len", "size"),
    *("offset", "cross", "pos", "num", "implementation"),
)
_POSITION = re.compile(
    r"(^|_)(pos|position|positions|offset|seqlen_offset)$|^(cache_position|position_ids?|start|start_(idx|index)|n_past|cur_len)$"
    r"|^(past|cache|cached|kv|prev|prefix)_(len|length)$"
)
_STEP_POSITION = re.compile(r"^(t|i|n|step|index|idx|time|timestep|length|seq_len)$")
"""Names of positions in a method that takes one token, after the token itself."""
_FLAG = re.compile(r"^(use|return|with|keep|get|update)_.*(cache|state|states|kv|kvs|mems|past|present|presents)$")
_BATCH = re.compile(r"^(max_)?(batch|batch_size|bsz|bs|b|n|rows|num_(seqs|sequences|rows))$", re.IGNORECASE)
_LAYERS = re.compile(r"^(n|num)_?(layers?|blocks)$|^(layers|depth|n_layer)$")
_ROOM = re.compile(r"(len|length|seqlen|capacity|size|tokens|ctx|context|positions?|max_t|^t$)", re.IGNORECASE)

_STEP = re.compile(
    r"^(step|decode|infer|inference|advance|feed|extend|incremental|recurrent|next_logits|next_token|single_token)(_|$)"
    r"|_(step|one|cached|with_cache|cache|incremental|recurrent|inference|token|stepwise|next|with_state|stateful)$"
)
_PREFILL = re.compile(r"^(prefill|prime|ingest|process_prompt|encode_prompt|read_prompt|start_decoding)|_prefill$")
_BEGIN = re.compile(
    r"^(get_)?(init|initial|initialize|initialise|new|make|create|empty|zero|zeros|begin|start|alloc|allocate|build"
    r"|fresh|blank|prepare|setup|set_up)_?.*(state|cache|hidden|memory|kv|carry|past|decoding)"
)
_RESET = re.compile(
    r"^(reset|clear|flush|free|empty)(_.*)?(cache|state|memory|kv|hidden|decoding|decoder|inference)s?$|^reset$|^clear$"
)
_GENERATE = re.compile(r"^(generate|greedy|sample|complete|continuation)(_|$)")
_NO_METHOD = re.compile(
    r"train|valid|optim|loss|test|param|weight|config|mask|embed|text|string|tokenizer|image|random|rope|rotary|freq"
)
_LIBRARIES = ("torch", "transformers", "builtins", "lightning", "pytorch_lightning")


@dataclass(frozen=True)
class Roles:
    """The arguments of one method by what they are for; `unknown` are those that must be given and have no known role.

    `needed` are those of the states that have no default, `flags` get True.
    """

    method: str
    tokens: str
    states: tuple[str, ...]
    needed: tuple[str, ...]
    positions: tuple[str, ...]
    position_needed: bool
    flags: tuple[str, ...]
    optional: tuple[str, ...]
    """Arguments that may be the state instead of the one in `states`, the likeliest first."""
    unknown: tuple[str, ...]
    one_number: bool
    """Whether the annotation says that the tokens are one Python int."""


def roles_of(model: nn.Module, method: str, stepping: bool) -> Roles | None:
    """The roles of a method's arguments; None where it takes no tokens. `stepping`: it takes a single one."""
    given = {
        name: p
        for name, p in parameters_of(getattr(model, method)).items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in ("self", "device", "dtype")
    }
    keywords = any(p.kind is p.VAR_KEYWORD for p in parameters_of(getattr(model, method)).values())
    flags = [name for name, p in given.items() if _FLAG.search(name) or (may_be_state(name) and _is_bool(p))]
    others = [name for name in given if name not in flags]
    positions = [name for name in others[1:] if _POSITION.search(name) or (stepping and _STEP_POSITION.search(name))]
    states = [name for name in others if name not in positions and may_be_state(name)]
    named = [name for name in STATES if name in others and name not in states and name not in positions]
    states = sorted([*states, *named], key=others.index)
    rest = [name for name in others if name not in positions and name not in states]
    if not rest:
        return None
    needed = [name for name in others if given[name].default is inspect.Parameter.empty]
    if "past_key_values" in states and keywords and not flags:
        flags = ["use_cache"]
    optional = sorted((name for name in states if name not in needed), key=_likeliness)
    states = [name for name in states if name in needed] or optional[:1]
    return Roles(
        method=method,
        tokens=rest[0],
        states=tuple(states),
        needed=tuple(name for name in states if name in needed),
        positions=_chosen_positions(positions, needed),
        position_needed=any(name in needed for name in positions),
        flags=tuple(flags),
        optional=tuple(name for name in optional if name not in states),
        unknown=tuple(name for name in rest[1:] if name in needed),
        one_number=given[rest[0]].annotation in (int, "int"),
    )


def may_be_state(name: str) -> bool:
    """Whether an argument of this name may be a state."""
    if name in STATES:
        return True
    return any(part in name for part in _PARTS) and not any(part in name for part in _NO_STATE)


def _is_bool(parameter: inspect.Parameter) -> bool:
    return isinstance(parameter.default, bool) or parameter.annotation in (bool, "bool")


def _chosen_positions(positions: list[str], needed: list[str]) -> tuple[str, ...]:
    """Those that must be given, or both of transformers' names, or else the first."""
    must = tuple(name for name in positions if name in needed)
    known = tuple(name for name in positions if name in ("position_ids", "cache_position"))
    return must or known or tuple(positions[:1])


def _likeliness(name: str) -> int:
    """A smaller number for likelier names of a state."""
    return STATES.index(name) if name in STATES else 2 if re.search("cache|past|kv", name) else len(STATES)


def methods(model: nn.Module, kind: str) -> Iterator[str]:
    """The model's own methods that are, by their names, of a `kind`: step, prefill, begin, reset or generate."""
    pattern = {"step": _STEP, "prefill": _PREFILL, "begin": _BEGIN, "reset": _RESET, "generate": _GENERATE}[kind]
    seen: set[str] = set()
    for owner in type(model).__mro__:
        if owner.__module__.partition(".")[0] in _LIBRARIES:
            continue
        for name, value in vars(owner).items():
            usable = callable(value) and not name.startswith("_") and name != "forward" and name not in seen
            others = (_GENERATE, _BEGIN, _RESET) if kind in ("step", "prefill") else ()
            if usable and pattern.search(name) and not any(no.search(name) for no in (_NO_METHOD, *others)):
                seen.add(name)
                yield name


def arguments_to_begin(
    function: Callable[..., Any], rows: int, room: int, layers: int | None = None
) -> dict[str, Any] | None:
    """What to pass to what makes an empty state of `rows` of `room` tokens in so many layers; None if unknown."""
    given: dict[str, Any] = {}
    for name, parameter in parameters_of(function).items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        needed = parameter.default is parameter.empty
        if _BATCH.search(name):
            given[name] = rows
        elif layers is not None and needed and _LAYERS.search(name):
            given[name] = layers
        elif _ROOM.search(name) and (needed or parameter.default is None):
            given[name] = room
        elif needed and name not in ("device", "dtype"):
            return None
        elif needed:
            given[name] = None
    return given
