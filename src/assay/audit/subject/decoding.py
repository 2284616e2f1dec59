"""How a model decodes with a state, by either convention: assay's methods, or a state that `forward` takes and returns.

Shapes: B batch, T tokens, V vocabulary.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assay.audit.subject.subject import logits_of, parameters_of

_ASKED_FOR = ("past_key_values", "cache_params")
"""The library transformers' names for the state among the arguments of `forward`."""
_CACHES = (*_ASKED_FOR, "state", "states", "hidden", "hx", "h", "h0", "hc", "mems", "memory", "carry", "prev", "past")
_PARTS = ("past", "cache", "kv", "state", "mems", "hidden", "carry", "inference_params", "memories")
"""Parts of names by which an argument of `forward` is taken for the state, unless it also contains one of _NO_STATE."""
_NO_STATE = ("mask", "position", "return", "output", "use_", "label", "target", "embed", "encoder", "update")

Advance = Callable[[nn.Module, Tensor, Any, int], tuple[Tensor, Any]]
"""(model, ids [B, T], state or None, number of tokens before) -> (logits [B, T, V], state)."""


class NoStateError(Exception):
    """The model takes a state and returns none."""


class Decoder:
    """Runs a sequence in pieces, passing the state from each to the next.

    `first` runs the first piece, `later` every other; `longer` says which may be longer than a token: "none", the
    "first" or "all". `otherwise` is the same decoder with other arguments (without positions): the model need keep only
    one of the two.
    """

    def __init__(
        self,
        convention: str,
        first: Advance,
        later: Advance,
        longer: Literal["none", "first", "all"],
        otherwise: "Decoder | None" = None,
    ) -> None:
        self.convention = convention
        self.first = first
        self.later = later
        self.longer = longer
        self.otherwise = otherwise

    def pieces(self, model: nn.Module, ids: Tensor, lengths: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """(start of the piece, its logits [B, T, V]) for each piece."""
        state, start = None, 0
        for length in lengths:
            advance = self.later if start else self.first
            logits, state = advance(model, ids[:, start : start + length], state, start)
            yield start, logits
            start += length


def decoders(model: nn.Module) -> list[Decoder]:
    """The ways in which `model` decodes; none where it follows no convention that is known here."""
    ways = _stepping(model) if callable(getattr(model, "step", None)) else []
    if ways:
        return ways
    parameters = parameters_of(model.forward)
    optional = [name for name, parameter in parameters.items() if parameter.default is None]
    cache = next((name for name in (*_CACHES, *filter(_may_be_state, optional)) if name in optional), None)
    return [] if cache is None else [_caching(cache, parameters)]


def _may_be_state(name: str) -> bool:
    return any(part in name for part in _PARTS) and not any(part in name for part in _NO_STATE)


def _caching(cache: str, parameters: Mapping[str, inspect.Parameter]) -> Decoder:
    """`forward` takes the state as `cache`, and returns it as one of an object's fields or after the logits.

    Models that return it only when an argument such as `use_cache` asks for it, as those of transformers, need only
    continue token by token.
    """
    keywords = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    asked = [name for name in ("use_cache", "use_mems", "return_state", "return_cache") if name in parameters]
    if not asked and keywords and cache in _ASKED_FOR:
        asked = ["use_cache"]

    words = f"`{asked[0]}` and `{cache}`" if asked else f"`forward` and `{cache}`"
    places = [name for name in ("position_ids", "cache_position") if name in parameters]

    def decoder(told: Sequence[str], otherwise: Decoder | None = None) -> Decoder:
        advance = _advancing(cache, asked, told)
        return Decoder(words, advance, advance, "first" if asked else "all", otherwise)

    # With positions, as the `generate` of transformers gives them; and without, as other models derive them themselves.
    return decoder(places, decoder(())) if places else decoder(())


def _advancing(cache: str, asked: Sequence[str], told: Sequence[str]) -> Advance:
    """A call of `forward` that passes the state as `cache`.

    It sets the arguments `asked` to True, to get the state back, and the arguments `told` to the positions of the ids.
    """

    def advance(model: nn.Module, ids: Tensor, state: Any, start: int) -> tuple[Tensor, Any]:
        places = torch.arange(start, start + ids.shape[1], device=ids.device)
        given = {"position_ids": places[None], "cache_position": places}
        chosen = {**{name: given[name] for name in told}, **({} if state is None else {cache: state})}
        output = model(ids, **dict.fromkeys(asked, True), **chosen)
        state = _state_in(output, cache)
        if state is None:
            raise NoStateError(f"`{asked[0] if asked else 'forward'}` returns no `{cache}`")
        return logits_of(output, ids), state

    return advance


def _state_in(output: Any, cache: str) -> Any:
    """The state in what a model returned: a field of a known name, or what follows the logits in a tuple."""
    names = (cache, f"{cache}s", f"new_{cache}", f"next_{cache}", *_CACHES, "kv_cache", "cache")
    if isinstance(output, Mapping):
        return next((output[name] for name in names if output.get(name) is not None), None)
    if isinstance(output, tuple | list) and not hasattr(output, "logits"):
        others = [part for part in output[1:] if part is not None]
        return next((part for part in others if not (isinstance(part, Tensor) and part.ndim == 0)), None)
    return next((value for name in names if (value := getattr(output, name, None)) is not None), None)


def _stepping(model: Any) -> list[Decoder]:
    """assay's convention: `prefill` then `step`, and `initial_state` (without and with a capacity) then `step`."""
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


def splits(decoder: Decoder, length: int, steps: int, few: bool) -> list[list[int]]:
    """Lengths of pieces to try: a first piece of 1, 5 or 16 tokens, then steps, or the rest."""
    if decoder.longer == "none":
        return [[1] * min(length, steps + 1 if few else 3 * steps)]
    ways = []
    for start in (5, 16) if few and length > 5 else (1, 5, 16):
        if 0 < start < length:
            ways.append([start] + [1] * min(3 * steps if start == 1 and not few else steps, length - start))
            if decoder.longer == "all" and not (few and start != 5):
                ways.append([start, length - start])
    return [*ways, [3, 1, length - 5, 1]] if decoder.longer == "all" and length > 6 and not few else ways


BOUNDARIES, FEW_BOUNDARIES = (32, 64, 100, 128, 256), (64,)
"""Usual sizes of windows, ring buffers and chunks; decoding is tried across each."""


def long_splits(decoder: Decoder, length: int, steps: int, few: bool) -> list[list[int]]:
    """Lengths of pieces for a long row: single tokens across each boundary and at the end, long pieces in between."""
    boundaries = [boundary for boundary in (FEW_BOUNDARIES if few else BOUNDARIES) if boundary + steps < length]
    if decoder.longer == "none":
        return []
    if decoder.longer == "first":
        return [[cut - 1] + [1] * steps for cut in boundaries] + [[length - steps] + [1] * steps]
    pieces: list[int] = []
    for cut in boundaries:
        pieces += [cut - 1 - sum(pieces)] + [1] * steps
    rest = length - sum(pieces) - steps
    through = pieces + ([rest] if rest > 0 else []) + [1] * steps
    return [through] if few else [through, [length - steps] + [1] * steps]


def concatenated(pieces: Sequence[tuple[int, Tensor]]) -> Tensor:
    """The logits of all pieces [B, T, V]."""
    return torch.cat([logits for _, logits in pieces], 1)
