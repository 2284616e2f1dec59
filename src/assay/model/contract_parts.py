"""Checks of the parts that an architecture's functions make: each is of the right class and its methods answer."""

from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, TypeVar

import torch
from torch import Tensor

from assay.errors import RequestError
from assay.layers.mixer import ExecutedFlops, Layer, SequenceLayer
from assay.model.architecture import Architecture, ModelConfig, build_model
from assay.model.lm import LanguageModel
from assay.plugins.blame import blamed, described, place_of

TOKENS = 7
BYTES = 4
Answer = TypeVar("Answer")


def tried(call: Callable[[], Answer], *places: object) -> Answer:
    """The result of `call`; an exception becomes a RequestError that names the line of the plug-in that raised it.

    Where no line of a plug-in ran, as in a call with wrong arguments, it names the first of `places` from a plug-in.
    """
    try:
        return call()
    except Exception as error:
        raise RequestError(blamed(error) or f"{place_of(*places)}: {described(error)}") from error


def smallest_model(architecture: Architecture) -> LanguageModel:
    """The model of the `tiny` configuration in eval mode; else a RequestError that says which part is wrong, and where.

    Each part is first made on its own, so that the message can point to the one that is wrong.
    """
    try:
        config = architecture.config.parse(architecture.tiny)
    except RequestError as error:
        raise RequestError(f"{architecture.name}: its tiny configuration: {error}") from error
    for name, make, arguments in _makers(architecture, config):
        _held_part(name, make, tried(lambda make=make, given=arguments: make(*given), make, architecture.mixer))  # type: ignore[misc]
    return tried(lambda: build_model(architecture, config, 0).eval(), architecture.mixer)


def _makers(
    architecture: Architecture, config: ModelConfig
) -> Iterator[tuple[str, Callable[..., Any], tuple[object, ...]]]:
    for index in range(config.n_layers):
        yield "mixer", architecture.mixer, (config, index)
        yield "channel_mixer", architecture.channel_mixer, (config, index)
    yield "norm", architecture.norm, (config.d_model,)
    if architecture.embedding_norm is not None:
        yield "embedding_norm", architecture.embedding_norm, (config.d_model,)
    yield "max_positions", architecture.max_positions, (config,)


def _held_part(name: str, make: Callable[..., Any], part: object) -> None:
    """Raise a RequestError where `part` is not of the class that `name` needs, or one of its methods fails."""
    if part is None and name in ("channel_mixer", "max_positions"):
        return
    kind: type = {"max_positions": int, "norm": Layer, "embedding_norm": Layer}.get(name, SequenceLayer)
    if not isinstance(part, kind):
        where, got = place_of(type(part), make), type(part).__name__
        advice = f"; derive it from {kind.__module__}.{kind.__name__}" if isinstance(part, torch.nn.Module) else ""
        raise RequestError(f"{where}: {name} makes {got}, which is no {kind.__name__}{advice}")
    if isinstance(part, Layer):
        generator = torch.Generator().manual_seed(0)
        tried(lambda: part.reset_parameters(generator), type(part).reset_parameters, make)
    if isinstance(part, SequenceLayer):
        _held_accounts(part, make)


def _held_accounts(layer: SequenceLayer, make: Callable[..., Any]) -> None:
    """Raise a RequestError where a layer's costs, initial state or output weights are of the wrong type."""
    _asked(layer, make, "initial_state", 1)
    for name, arguments in (("flops_per_token", (TOKENS,)), ("state_bytes", (TOKENS, BYTES))):
        count = _asked(layer, make, name, *arguments)
        if not isinstance(count, Integral) or count < 0:
            raise _wrong(layer, make, name, f"returned {count!r}; a whole number, zero or more, is needed")
    weights = _asked(layer, make, "residual_outputs")
    if not isinstance(weights, tuple | list) or not all(isinstance(weight, Tensor) for weight in weights):
        raise _wrong(layer, make, "residual_outputs", "returned no tuple of weights; () would do")
    executed = _asked(layer, make, "executed_flops", TOKENS)
    if not isinstance(executed, ExecutedFlops | None):
        what = f"returned a {type(executed).__name__}; an ExecutedFlops(counted, uncounted) or None is needed"
        raise _wrong(layer, make, "executed_flops", what)


def _asked(layer: SequenceLayer, make: Callable[..., Any], name: str, *arguments: object) -> object:
    return tried(lambda: getattr(layer, name)(*arguments), getattr(type(layer), name), type(layer), make)


def _wrong(layer: SequenceLayer, make: Callable[..., Any], name: str, what: str) -> RequestError:
    return RequestError(
        f"{place_of(getattr(type(layer), name), type(layer), make)}: {type(layer).__name__}.{name} {what}"
    )
