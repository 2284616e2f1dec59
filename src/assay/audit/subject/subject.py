"""The subject: the model under audit behind one interface, from ids to logits, in either mode and from a given seed.

Shapes: B batch, T tokens, V vocabulary.
"""

import dis
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.calling.lengths import Lengths
from assay.audit.calling.ways import Calling
from assay.audit.calling.ways import logits_of as logits_of
from assay.audit.subject.arithmetic import Widened, float64_by_default, in_float64, narrowest_type
from assay.audit.subject.convolutions import QuickConvolutions, has_depthwise
from assay.audit.subject.differences import change
from assay.audit.subject.draws import Source, SteadyDraws
from assay.audit.subject.dropout import estimates_kept, without_dropout
from assay.audit.subject.memory import Memory, reachable
from assay.errors import RequestError
from assay.evaluation.generators import drawn_so_far, is_generator, reseed, seed_generators, state_of
from assay.layers.randomness import drawn_by

LOGITS_AT_ONCE = 1 << 23
MOST_ROWS, LEAST_ROWS = 1 << 20, 4
"""The rows of one call, and how few are tried where a model raises on more."""

Decode = Callable[[nn.Module, Tensor, Any], tuple[Tensor, Any]]
"""(model, ids [B, T], state or None) -> (logits [B, T, V], or those of the last tokens, state)."""


class RaisedError(Exception):
    """The model raised; the text is one line."""


class Subject:
    """A copy of a model, with what the checks need to know about it. Made by `borrowing.borrowed`.

    `weights` says which are in use: "given" or "redrawn". `restores` puts the copy's memory back before each run,
    `alone` runs one row at a time: both are switched on where the isolation checks fail, so that other checks still
    mean something. `steady`, if set, is the source of fixed numbers that replaces random draws (see draws.py).
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.name = type(model).__name__
        self.weights = "given"
        self.own_type = narrowest_type(model)
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.memories = {"given": Memory(model)}
        self.generators = [value for value in reachable(model) if is_generator(value)]
        self.wide = True
        self.depthwise = has_depthwise(model)
        self.asks_for_no_type = False
        """Whether nothing inside asks for a type narrower than float64, so that weights in float64 are enough."""
        self.narrow_seen = False
        self.restores = False
        self.keeps_changes = False
        """Whether what a run in training mode changes stays, as in training; else it begins from the fresh copy."""
        self.alone = False
        self.most_rows = MOST_ROWS
        self.steady: Source | None = None
        self.decode: Decode | None = None
        """The user's own way to decode."""
        self.unit = 0.0
        self.calls = 0
        """How often torch has been called in runs where every call was watched."""
        self.elements = 0
        """How many elements the tensors had that torch returned in these runs."""
        self.work: dict[int, tuple[int, int]] = {}
        """By the number of tokens of a row, the (calls, elements) that it took."""
        self.chunks: list[tuple[nn.Module, str, int]] = []
        """(module, name, own value) of each length of chunks that was shortened for the audit."""
        self.outputs = 1
        """The width of the logits, which may exceed the vocabulary."""
        self.vocab_size = 0
        self.shortest = 1
        """A length that the model is known to run on."""
        self.takes = Lengths(range(1, 2))
        """The lengths that the model takes, as far as they are searched."""
        self.callings = {False: Calling(), True: Calling()}
        """How the model is called in eval and in training mode (True)."""
        self.trains = True
        """Whether the model runs in training mode."""
        self.differentiable = True
        """Whether it runs where gradients are taken; flex attention on a CPU does not."""
        self.unsearched: dict[str, str] = {}
        """What could not be looked at, and why."""
        self.special_ids: tuple[int, ...] = ()
        self.narrow: list[tuple[Tensor, Tensor]] = []
        """Every tensor that was widened to float64, with its values in its own type."""
        self.autocast = False
        """Whether to run under torch's autocast to bfloat16."""
        self.references: dict[str, Tensor] = {}
        """For each set of weights, the logits of the longest row in eval mode on the fresh copy, every call watched."""
        self.trained: dict[str, Tensor] = {}
        """The same in training mode, where it has been run and the model draws nothing."""
        self._draws: dict[tuple[bool, bool], bool] = {}

    @property
    def longest(self) -> int:
        """The most tokens that are searched."""
        return self.takes.longest

    @property
    def memory(self) -> Memory:
        """The copy as it was before any run, with the weights now in use."""
        return self.memories[self.weights]

    def use(self, weights: str) -> None:
        """Switch to another set of weights, and forget every run."""
        self.weights = weights
        self.memory.restore()

    @contextmanager
    def running(
        self, training: bool = False, seed: int = 0, dropout: bool = True, gradients: bool = False
    ) -> Iterator[nn.Module]:
        """The copy, ready to be called: in its mode, with generators seeded by `seed`, in float64 if it can be.

        An exception inside becomes a RaisedError.
        """
        # If training mode draws, attributes that look like dropout probabilities are set to 0 in eval mode too: one of
        # them may be a constant that only looks like one, and it must be the same in both modes.
        masked = not dropout and any(self._draws.get((mode, True), False) for mode in (training, True))
        if self.restores or (training and not self.keeps_changes):
            self.memory.restore()
        seed_generators(seed)
        for generator in self.generators:
            reseed(generator, seed)
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(drawn_by(self.model, torch.rand))
            stack.enter_context(torch.set_grad_enabled(gradients))
            stack.enter_context(eagerly())
            mode: Widened | None = None
            if self.wide and self.asks_for_no_type:
                stack.enter_context(float64_by_default())
            elif self.wide:
                mode = stack.enter_context(in_float64())
            if self.wide and self.depthwise:
                stack.enter_context(QuickConvolutions())
            if self.autocast:
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
            if training:
                stack.enter_context(estimates_kept(self.model))
            if masked:
                stack.enter_context(without_dropout(self.model))
            if self.steady is not None:
                stack.enter_context(SteadyDraws(self.steady))
            before = self.drawn()
            try:
                self.model.train(training)
                yield self.model
            except RequestError:
                raise
            except BaseException as error:
                if is_the_users(error):
                    raise
                raise RaisedError(one_line(error) + (" (in training mode)" if training else "")) from error
            finally:
                self.narrow_seen |= mode is not None and mode.narrow_seen
                self.calls += 0 if mode is None else mode.calls
                self.elements += 0 if mode is None else mode.elements
                if self.drawn() != before:
                    self._draws[training, dropout] = True

    def arithmetic(self) -> str:
        """The number type that the copy computes in, in words."""
        if not self.wide:
            return f"{self.own_type} as the model cannot run in float64: changes count from 20 times rounding".replace(
                "torch.", ""
            )
        return "float64 with narrower parts: changes count from 20 times rounding" if self.narrow_seen else "float64"

    def drawn(self) -> tuple[object, ...]:
        """The states of all generators that a run may draw from: they differ after something was drawn."""
        return (*drawn_so_far(), *(state_of(generator) for generator in self.generators))

    def draws(self, training: bool, dropout: bool = True) -> bool:
        """Whether the model draws at random in this mode; with `dropout=False`, whether it does with dropout off."""
        key = (training, dropout)
        if not dropout and not self.draws(training):
            return False
        if key not in self._draws:
            ids = torch.zeros(2, self.shortest, dtype=torch.long, device=self.device)
            logits = []
            for seed in (0, 1):
                self.memory.restore()
                with self.running(training, seed, dropout):
                    before = self.drawn()
                    logits.append(self.called(ids))
                    drawn = self.drawn() != before
            self._draws[key] = drawn or bool(change(*logits).amax() > 0)
            self.memory.restore()
        return self._draws[key]

    def logits(self, ids: Tensor, training: bool = False, seed: int = 0, dropout: bool = True) -> Tensor:
        """Logits [B, T, V] of `ids` [B, T]; rows are split over several calls where memory requires it."""
        rows = 1 if self.alone else max(1, min(self.most_rows, LOGITS_AT_ONCE // (ids.shape[1] * self.outputs)))
        try:
            parts = [self.one_call(part, training, seed, dropout) for part in ids.split(rows)]
        except RaisedError:  # a cache on the model may have room for so many rows only
            rows = min(rows, len(ids)) // 2
            if rows < LEAST_ROWS:
                raise
            self.most_rows = rows
            return self.logits(ids, training, seed, dropout)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def reference(self, ids: Tensor) -> Tensor:
        """The logits of the longest row `ids` [1, T], run once for each set of weights."""
        if self.weights not in self.references:
            quick, self.asks_for_no_type = self.asks_for_no_type, False
            self.memory.restore()
            self.references[self.weights] = self.logits(ids)
            self.asks_for_no_type = quick
        return self.references[self.weights]

    def one_call(self, ids: Tensor, training: bool = False, seed: int = 0, dropout: bool = True) -> Tensor:
        """Logits [B, T, V] of all rows of `ids` [B, T] at once; in training mode gradients are on, as in training."""
        with self.running(training, seed, dropout, gradients=training and self.differentiable):
            return self.called(ids.to(self.device)).detach()

    def called(self, ids: Tensor) -> Tensor:
        """Logits [B, T, V] of `ids` [B, T], inside a block of `running`."""
        return self.callings[self.model.training].logits(self.model, ids)


def eagerly() -> AbstractContextManager[Any]:
    """Inside the block what `torch.compile` made runs as it was written: compiled anew in each mode it takes minutes.

    torch's compiler, if anything was compiled, has been imported; importing it takes seconds.
    """
    compiler = sys.modules.get("torch._dynamo")
    return nullcontext() if compiler is None else torch.compiler.set_stance("force_eager")


def is_the_users(error: BaseException) -> bool:
    """Whether the user interrupted the audit, rather than code of the model that raises a KeyboardInterrupt itself."""
    place = error.__traceback__
    if type(error) is not KeyboardInterrupt or place is None:
        return False
    while place.tb_next is not None:
        place = place.tb_next
    return place.tb_frame.f_code.co_code[place.tb_lasti] != dis.opmap["RAISE_VARARGS"]


def one_line(error: BaseException) -> str:
    """The exception's type and the first line of its text."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # code from outside assay may raise even here
        lines = []
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
