"""The checks that a plug-in's architecture must pass before it is trained: shapes, and a state that continues."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.errors import RequestError
from assay.layers.mixer import SequenceLayer
from assay.model.architecture import Architecture
from assay.model.contract_parts import TOKENS, smallest_model, tried
from assay.model.contract_states import state_faults
from assay.model.lm import LanguageModel
from assay.model.optimizer_roles import optimizer_roles
from assay.plugins.blame import place_of

ROWS = 2
PIECES = ((0, 4), (4, 5), (5, TOKENS))
"""Start and end of each piece of the sequence; one is a single token, as in decoding."""
SPLIT = PIECES[0][1]
CLOSE = 1e-4
"""The largest difference allowed, relative to the largest output: far above the rounding of float32, and far below the
difference that a state makes which the layer does not read.
"""


def check_contract(architecture: Architecture) -> None:
    """Raise a RequestError, with file and line, where the smallest model of `architecture` breaks a layer's contract.

    Its parts are of the right kind, every parameter has a weight-decay role, each layer maps [B, T, D] to
    ([B, T, D], state) as `check_shapes` says, and continuing from the state gives what one call gives.
    """
    model = smallest_model(architecture)
    list(optimizer_roles(model))
    for held in _layers(architecture, model):
        held.check_shapes()
    if _hears_no_future(model, architecture):
        for held in _layers(architecture, model):
            held.check_continuing()
    list(optimizer_roles(model))  # again, as a forward pass may have added parameters


def check_shapes(architecture: Architecture) -> None:
    """The part of `check_contract` about returned shapes and types; `assay check` and `assay audit` find the rest."""
    for held in _layers(architecture, smallest_model(architecture)):
        held.check_shapes()


@dataclass(frozen=True)
class _Held:
    """A layer under test, its inputs x [2, 7, D], and what earlier layers published in `shared`.

    `whole` is what they published in one call over all of x, `pieces` what they published over each piece of it.
    """

    architecture: Architecture
    layer: SequenceLayer
    x: Tensor
    whole: dict[str, Tensor]
    pieces: list[dict[str, Tensor]]

    @torch.no_grad()
    def check_shapes(self) -> None:
        """y has x's shape and type, x is not changed, and the initial state has the form of those forward returns."""
        _, longer = self.called(self.x, None, dict(self.whole))
        _, after = self.called(self.x[:, :SPLIT], None, dict(self.pieces[0]))
        for arguments in ((ROWS,), (ROWS, TOKENS)):
            initial = tried(lambda given=arguments: self.layer.initial_state(*given), *self.places("initial_state"))  # type: ignore[misc]
            self.refuse_state(initial, "initial_state")
            for fault in state_faults(initial, after, longer):
                raise self.broken("initial_state", f"({', '.join(map(str, arguments))}): {fault}")
        tried(lambda: self._differentiate(), *self.places("forward"))

    @torch.no_grad()
    def check_continuing(self) -> None:
        """Where the layer is causal: calls over pieces that pass the state on give the outputs of one call."""
        y, _ = self.called(self.x, None, dict(self.whole))
        if self._is_causal(y):
            outputs = self._in_pieces([dict(shared) for shared in self.pieces])
            self.refuse_difference(torch.cat(outputs, 1), y, "continuing from its state gives")
            begun, _ = self.called(self.x[:, :SPLIT], self.layer.initial_state(ROWS), dict(self.pieces[0]))
            self.refuse_difference(begun, outputs[0], "beginning from initial_state gives")

    @torch.no_grad()
    def publish(self) -> None:
        """Run the layer so that `whole` and `pieces` hold what it publishes; once on each, as it may read them too."""
        self.called(self.x, None, self.whole)
        self._in_pieces(self.pieces)

    def called(self, x: Tensor, state: Any, shared: dict[str, Tensor]) -> tuple[Tensor, Any]:
        """(y, state) as the layer returns them; a RequestError where they are of the wrong kind, shape or type."""
        before, parameters = x.clone(), _parameters(self.layer)
        answer = tried(lambda: self.layer(x, state, shared), *self.places("forward"))
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise self.broken("forward", f" returned a {type(answer).__name__}; a pair (y, state) is needed")
        y, state = answer
        if not isinstance(y, Tensor) or y.shape != x.shape:
            given = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
            what = f" returned {given} for inputs {list(x.shape)}; y of the same shape [B, T, D] is needed"
            raise self.broken("forward", what)
        if y.dtype != x.dtype:
            raise self.broken("forward", f" returned {y.dtype} for inputs of {x.dtype}; y of the same type is needed")
        if not bool(y.isfinite().all()):
            token = int((~y.isfinite()).any(2).any(0).nonzero()[0])
            value = y[:, token][~y[:, token].isfinite()][0].item()
            raise self.broken("forward", f" returned {value} first at token {token} of {y.shape[1]}, for finite inputs")
        if not torch.equal(x, before):
            raise self.broken("forward", " changes its input x in place; x belongs to the caller")
        if _parameters(self.layer) != parameters:
            raise self.broken("forward", " adds or replaces parameters; they belong in __init__")
        self.refuse_state(state, "forward")
        return y, state

    def _in_pieces(self, pieces: list[dict[str, Tensor]]) -> list[Tensor]:
        state, outputs = None, []
        for (start, end), shared in zip(PIECES, pieces, strict=True):
            output, state = self.called(self.x[:, start:end], state, shared)
            outputs.append(output)
        return outputs

    def refuse_state(self, state: object, method: str) -> None:
        if not isinstance(state, tuple):
            what = f" returned {type(state).__name__} as its state; a NamedTuple of tensors, or (), is needed"
            raise self.broken(method, what)

    def refuse_difference(self, y: Tensor, expected: Tensor, what: str) -> None:
        difference = ((y - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
        if not difference <= CLOSE:
            raise self.broken("forward", f" {what} other outputs than one call, by {difference:.2g} of the largest")

    def broken(self, method: str, what: str) -> RequestError:
        return RequestError(f"{place_of(*self.places(method))}: {type(self.layer).__name__}.{method}{what}")

    def places(self, method: str) -> tuple[object, ...]:
        """The objects whose source an error message may point to, the most likely place of the fault first."""
        return getattr(type(self.layer), method), type(self.layer), self.architecture.mixer

    @torch.enable_grad()
    def _differentiate(self) -> None:
        """Take the gradient of y, where y has one: it must not raise."""
        x = self.x.clone().requires_grad_()
        y, _ = self.layer(x, None, dict(self.whole))
        if y.requires_grad:
            torch.autograd.grad(y.sum(), [x, *self.layer.parameters()], allow_unused=True)

    def _is_causal(self, y: Tensor) -> bool:
        """Whether the first outputs stay the same when the last inputs change. (If not, an audit says what leaks.)"""
        changed = torch.cat([self.x[:, :SPLIT], self.x[:, SPLIT:].flip(0)], 1)
        moved, _ = self.called(changed, None, dict(self.whole))
        return _stay(moved, y)


def _layers(architecture: Architecture, model: LanguageModel) -> Iterator[_Held]:
    """Every layer in order; the later ones find what the earlier ones publish in `shared`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, TOKENS, model.embedding.tokens.shape[1], generator=generator)
    ids = torch.randint(model.vocab_size, (ROWS, TOKENS), generator=generator)
    whole, pieces = {"ids": ids}, [{"ids": ids[:, start:end]} for start, end in PIECES]
    for block in model.sequence_blocks():
        for layer in block.layers():
            held = _Held(architecture, layer, x, whole, pieces)
            yield held
            held.publish()


@torch.no_grad()
def _hears_no_future(model: LanguageModel, architecture: Architecture) -> bool:
    """Whether the model's first hidden states stay the same when the last tokens change.

    One layer alone can look causal and the model still leak, through what layers publish in `shared`.
    """
    ids = torch.arange(TOKENS)[None] % model.vocab_size
    changed = torch.cat([ids[:, :SPLIT], ids[:, SPLIT:].flip(1)], 1)
    first, second = tried(lambda: (model.hidden(ids)[0], model.hidden(changed)[0]), architecture.mixer)
    return _stay(first, second)


def _stay(moved: Tensor, y: Tensor) -> bool:
    """Whether `moved` and `y`, outputs for inputs that differ from SPLIT on, are equal up to SPLIT."""
    return bool(torch.allclose(moved[:, :SPLIT], y[:, :SPLIT], CLOSE, CLOSE / 100))


def _parameters(layer: SequenceLayer) -> Mapping[str, int]:
    return {name: id(parameter) for name, parameter in layer.named_parameters()}
