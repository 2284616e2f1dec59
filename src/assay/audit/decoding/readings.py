"""One reading of a method that decodes: in which form it takes tokens and positions, and where its state comes from.

Shapes: B batch, T tokens, V vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assay.audit.decoding.decoders import NoStateError
from assay.audit.decoding.roles import STATES, Roles

TokenForm = Literal["rows", "column", "vector", "number", "int"]
"""[B, T]; [B, 1]; [B]; a scalar tensor; a Python int: for one token of each row, but for the first."""
NAMES_OF_TRANSFORMERS = ("position_ids", "cache_position")
PositionForm = Literal["none", "number", "scalar", "range", "each", "table"]
"""Left out; a Python int; a scalar tensor; [T], the places of the tokens; [B], one for each row; [B, T]."""


@dataclass
class InferenceParams:
    """What models that are given inference_params keep in them while they decode."""

    max_seqlen: int
    max_batch_size: int
    seqlen_offset: int = 0
    batch_size_offset: int = 0
    key_value_memory_dict: dict[Any, Any] = field(default_factory=dict)
    lengths_per_sample: Tensor | None = None

    def reset(self, max_seqlen: int, max_batch_size: int) -> None:
        """Begin anew."""
        self.max_seqlen, self.max_batch_size, self.seqlen_offset = max_seqlen, max_batch_size, 0


@dataclass(frozen=True)
class Reading:
    """Calls a method on some tokens [B, T] with a state, and finds logits and the new state in what it returns."""

    roles: Roles
    tokens: TokenForm
    position: PositionForm
    outputs: int

    def __call__(self, model: nn.Module, ids: Tensor, state: Any, start: int) -> tuple[Tensor, Any]:
        """The logits [B, k, V] of the last k tokens, and the state after them: the one given, if none is returned."""
        roles = self.roles
        given: dict[str, Any] = {roles.tokens: self._tokens(ids), **dict.fromkeys(roles.flags, True)}
        if state is None:
            given |= dict.fromkeys(roles.needed)
        elif len(roles.states) == 1:
            given[roles.states[0]] = state
        elif roles.states:
            given |= zip(roles.states, state, strict=True)
        if self.position != "none":
            given |= {name: self._position(name, ids, start) for name in roles.positions}
        output = model(**given) if roles.method == "forward" else getattr(model, roles.method)(**given)
        logits, others = _parted(output, len(ids), ids.shape[1], self.outputs)
        if isinstance(state, InferenceParams):
            state.seqlen_offset += ids.shape[1]
        after = _state_of(others, roles) if roles.states and others else None
        if after is None and state is None and roles.states:
            raise NoStateError(f"`{roles.method}` returns no `{roles.states[0]}`")
        return logits, state if after is None else after

    def _tokens(self, ids: Tensor) -> Any:
        if self.tokens == "int":
            return int(ids)
        shapes = {"rows": ids.shape, "column": (len(ids), 1), "vector": (len(ids),), "number": ()}
        return ids.reshape(shapes[self.tokens])

    def _position(self, name: str, ids: Tensor, start: int) -> Any:
        places = torch.arange(start, start + ids.shape[1], device=ids.device)
        if name in NAMES_OF_TRANSFORMERS:
            return places[None] if name == "position_ids" else places
        forms: dict[str, Callable[[], Any]] = {
            "number": lambda: start,
            "scalar": lambda: places[0],
            "range": lambda: places,
            "each": lambda: places[:1].expand(len(ids)),
            "table": lambda: places.expand(len(ids), -1),
        }
        return forms[self.position]()


def _parted(output: Any, rows: int, count: int, outputs: int) -> tuple[Tensor, Any]:
    """(logits [B, k, V], the rest) of what a method returned; a NoStateError where nothing looks like logits."""
    if isinstance(output, Tensor):
        logits = _as_logits(output, rows, count, outputs)
        rest: Any = []
    elif isinstance(output, tuple | list) and not hasattr(output, "logits"):
        found = [_as_logits(part, rows, count, outputs) for part in output]
        place = next((place for place, logits in enumerate(found) if logits is not None), None)
        logits = None if place is None else found[place]
        rest = [part for number, part in enumerate(output) if number != place and part is not None]
    else:
        known = output if isinstance(output, Mapping) else _fields(output)
        logits = _as_logits(known.get("logits"), rows, count, outputs)
        rest = {name: value for name, value in known.items() if name != "logits" and value is not None}
    if logits is None:
        raise NoLogitsError(f"gives a {type(output).__name__} without logits for {count} tokens in {rows} rows")
    return logits, rest


class NoLogitsError(Exception):
    """The method returned nothing that looks like logits."""


def _fields(output: Any) -> dict[str, Any]:
    names = getattr(output, "__dataclass_fields__", None) or vars(output) if hasattr(output, "__dict__") else {}
    return {name: getattr(output, name, None) for name in names}


def _as_logits(found: Any, rows: int, count: int, outputs: int) -> Tensor | None:
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.ndim == 0:
        return None
    if found.shape[-1] != outputs:
        return None
    if found.ndim == 3 and found.shape[0] == rows and found.shape[1] <= count:
        return found
    if found.ndim == 2 and found.shape[0] == rows:
        return found[:, None]
    if rows == 1 and found.ndim == 2 and found.shape[0] <= count:
        return found[None]
    return found[None, None] if rows == 1 and found.ndim == 1 else None


def _state_of(others: Any, roles: Roles) -> Any:
    """The state among what came beside the logits: a field of a known name, or a part of a tuple; None without one."""
    if isinstance(others, Mapping):
        name = roles.states[0]
        likely = (name, f"{name}s", f"new_{name}", f"next_{name}", *STATES, "kv_cache", "cache", "caches")
        return next((others[each] for each in likely if each in others), None)
    parts = [part for part in others if not (isinstance(part, int | float) or _is_loss(part))]
    if parts and len(roles.states) > 1:
        inner = parts[0] if len(parts) == 1 else parts
        if len(inner) != len(roles.states):
            raise NoStateError(f"`{roles.method}` returns {len(inner)} states, and takes {len(roles.states)}")
        return tuple(inner)
    containers = [part for part in parts if not isinstance(part, Tensor)]
    return next(iter([*(containers if len(parts) > 1 else []), *parts]), None)


def _is_loss(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim == 0
