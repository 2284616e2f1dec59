"""How a model decodes with a state, whichever of two conventions it keeps: assay's methods or transformers' caches.

Shapes: B batch, T tokens, V vocabulary.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assay.evaluation.audit.subject import logits_of

_CACHES = ("past_key_values", "cache_params")

Advance = Callable[[nn.Module, Tensor, Any, int], tuple[Tensor, Any]]
"""(model, ids [B, T], state or None, number of tokens before) -> (logits [B, T, V], state)."""


class NoStateError(Exception):
    """The model takes a cache and returns none."""


class Decoder:
    """Runs a sequence in pieces, the state handed on from each to the next.

    `first` takes the first piece, `later` every other; `longer` tells which may be longer than a token: "none", the
    "first" or "all".
    """

    def __init__(
        self, convention: str, first: Advance, later: Advance, longer: Literal["none", "first", "all"]
    ) -> None:
        self.convention = convention
        self.first = first
        self.later = later
        self.longer = longer

    def pieces(self, model: nn.Module, ids: Tensor, lengths: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """The start of each piece and its logits."""
        state, start = None, 0
        for length in lengths:
            advance = self.later if start else self.first
            logits, state = advance(model, ids[:, start : start + length], state, start)
            yield start, logits
            start += length


def decoders(model: nn.Module) -> list[Decoder]:
    """The ways in which `model` decodes; none where it keeps neither convention."""
    if callable(getattr(model, "step", None)):
        return _stepping(model)
    parameters = inspect.signature(model.forward).parameters
    cache = next((name for name in _CACHES if name in parameters), None)
    if cache is None or "use_cache" not in parameters:
        return []

    def advance(model: nn.Module, ids: Tensor, state: Any, start: int) -> tuple[Tensor, Any]:
        # Positions as transformers' own `generate` gives them; not every model counts them from its cache.
        places = torch.arange(start, start + ids.shape[1], device=ids.device)
        given = {"position_ids": places[None], "cache_position": places, cache: state}
        output = model(ids, use_cache=True, **{k: v for k, v in given.items() if k in parameters and v is not None})
        state = getattr(output, cache, None)
        if state is None:
            raise NoStateError(f"`use_cache` returns no `{cache}`")
        return logits_of(output, ids), state

    return [Decoder(f"`use_cache` and `{cache}`", advance, advance, "first")]


def _stepping(model: Any) -> list[Decoder]:
    """`prefill` and `step`, and `initial_state` and `step`, without and with a capacity."""
    ways = []

    def step(model: Any, ids: Tensor, state: Any, _: int) -> tuple[Tensor, Any]:
        logits, state = model.step(ids[:, 0], state)
        return logits[:, None], state

    def prefill(model: Any, ids: Tensor, state: Any, _: int) -> tuple[Tensor, Any]:
        logits, state = model.prefill(ids) if state is None else model.prefill(ids, state)
        return logits, state

    def go_on(model: Any, ids: Tensor, state: Any, start: int) -> tuple[Tensor, Any]:
        return (step if ids.shape[1] == 1 else prefill)(model, ids, state, start)

    if callable(getattr(model, "prefill", None)):
        whole = len(inspect.signature(model.prefill).parameters) > 1
        ways.append(Decoder("`prefill` and `step`", prefill, go_on, "all" if whole else "first"))
    if callable(getattr(model, "initial_state", None)):
        with_capacity = "capacity" in inspect.signature(model.initial_state).parameters
        for capacity in (False, True) if with_capacity else (False,):
            room = {"capacity": 64} if capacity else {}
            words = " with a capacity" if capacity else ""
            first = _from_nothing(step, room)
            ways.append(Decoder(f"`initial_state`{words} and `step`", first, step, "none"))
    return ways


def _from_nothing(step: Advance, room: dict[str, int]) -> Advance:
    def first(model: Any, ids: Tensor, _: Any, start: int) -> tuple[Tensor, Any]:
        return step(model, ids, model.initial_state(ids.shape[0], **room), start)

    return first


def splits(decoder: Decoder, length: int, steps: int) -> list[list[int]]:
    """Lengths of pieces to try: a first piece of 1, 5 or 16 tokens, then `steps` steps, or the rest."""
    if decoder.longer == "none":
        return [[1] * min(length, 3 * steps)]
    ways = []
    for start in (1, 5, 16):
        if 0 < start < length:
            ways.append([start] + [1] * min(steps, length - start))
            if decoder.longer == "all":
                ways.append([start, length - start])
    return [*ways, [3, 1, length - 5, 1]] if decoder.longer == "all" and length > 6 else ways


def concatenated(pieces: Sequence[tuple[int, Tensor]]) -> Tensor:
    """The logits of all pieces [B, T, V]."""
    return torch.cat([logits for _, logits in pieces], 1)
