"""What an architecture from outside must keep before a verb works with it: shapes, and a state that continues."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assay.errors import RequestError
from assay.layers.mixer import SequenceLayer
from assay.model.architecture import Architecture, build_model
from assay.registry import blamed, place_of

ROWS, TOKENS, SPLIT = 2, 7, 4
CLOSE = 1e-4
"""Of the largest output, in float32: far above rounding, far below a state that is not read."""


def check_contract(architecture: Architecture) -> None:
    """Raise a RequestError, with file and line, where the smallest model of `architecture` breaks a layer's contract.

    Each of its layers maps [B, T, D] to ([B, T, D], state), and continuing from the state gives what one call gives.
    """
    for layer, x, parts in _first_calls(architecture):
        y, _ = _called(layer, x, None, parts.whole)
        if _is_causal(layer, x, y, parts.whole):
            first, state = _called(layer, x[:, :SPLIT], None, parts.first)
            second, _ = _called(layer, x[:, SPLIT:], state, parts.second)
            _refuse_difference(layer, torch.cat([first, second], 1), y, "continuing from its state gives")
            begun, _ = _called(layer, x[:, :SPLIT], layer.initial_state(ROWS), parts.first)
            _refuse_difference(layer, begun, first, "beginning from initial_state gives")


def check_shapes(architecture: Architecture) -> None:
    """As `check_contract`, but of what is returned only: the rest is what `assay check` and `assay audit` find."""
    for layer, x, parts in _first_calls(architecture):
        _called(layer, x, None, parts.whole)


class _Shared(NamedTuple):
    """What earlier layers published, over the whole inputs and over both parts."""

    whole: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]


@torch.no_grad()
def _first_calls(architecture: Architecture) -> Iterator[tuple[SequenceLayer, Tensor, _Shared]]:
    """Every layer of the smallest model in order, with inputs [2, 7, D]."""
    try:
        model = build_model(architecture, architecture.config.parse(architecture.tiny), 0).eval()
    except RequestError as error:
        raise RequestError(f"{architecture.name}: its tiny configuration: {error}") from error
    except Exception as error:
        raise _told(error) from error
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, TOKENS, model.embedding.tokens.shape[1], generator=generator)
    ids = torch.randint(model.vocab_size, (ROWS, TOKENS), generator=generator)
    parts = _Shared({"ids": ids}, {"ids": ids[:, :SPLIT]}, {"ids": ids[:, SPLIT:]})
    for block in model.sequence_blocks():
        for layer in block.layers():
            yield layer, x, parts


def _is_causal(layer: SequenceLayer, x: Tensor, y: Tensor, shared: dict[str, Tensor]) -> bool:
    """Whether the first outputs stay when the last inputs change; where they do not, an audit says what leaks."""
    changed = torch.cat([x[:, :SPLIT], x[:, SPLIT:].flip(0)], 1)
    return bool(torch.allclose(_called(layer, changed, None, shared)[0][:, :SPLIT], y[:, :SPLIT], 1e-4, 1e-6))


def _called(layer: SequenceLayer, x: Tensor, state: Any, shared: dict[str, Tensor]) -> tuple[Tensor, Any]:
    """The layer's answer, if it is one."""
    try:
        answer = layer(x, state, shared)
    except RequestError:
        raise
    except Exception as error:
        raise _told(error) from error
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise _broken(layer, f"returned a {type(answer).__name__}; a pair (y, state) is needed")
    y, state = answer
    if not isinstance(y, Tensor) or y.shape != x.shape:
        given = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise _broken(layer, f"returned {given} for inputs {list(x.shape)}; y of the same shape [B, T, D] is needed")
    if not isinstance(state, tuple):
        raise _broken(layer, f"returned {type(state).__name__} as its state; a NamedTuple of tensors, or (), is needed")
    return y, state


def _refuse_difference(layer: SequenceLayer, y: Tensor, expected: Tensor, what: str) -> None:
    difference = ((y - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
    if not difference <= CLOSE:
        raise _broken(layer, f"{what} other outputs than one call, by {difference:.2g} of the largest")


def _broken(layer: nn.Module, what: str) -> RequestError:
    return RequestError(f"{place_of(type(layer).forward)}: {type(layer).__name__}.forward {what}")


def _told(error: Exception) -> RequestError:
    return RequestError(blamed(error) or f"{type(error).__name__}: {' '.join(str(error).split())}")
