"""One model that reads and generates at batch 1 while a clock runs.

Shapes: T tokens of a prompt.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from assay.evaluation.inference.memory import peak_of
from assay.evaluation.turns import synchronise
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.seeding import derive


class Seconds(NamedTuple):
    """One repetition at one context."""

    prefill: float
    step: float | None
    """Of one token behind it; None where the model has no position for it."""


class TimedReader:
    """`model` in evaluation mode under `plan`; prompts are random ids that follow from `seed` and their length.

    A prefill reads the prompt in parallel form from an empty state and computes the logits behind its last token. A
    step reads the likeliest token of the logits before it.
    """

    def __init__(self, model: LanguageModel, plan: ExecutionPlan, seed: int, clock: Callable[[], float]) -> None:
        self.model = plan.apply(model).eval()
        self.plan = plan
        self.seed = seed
        self.clock = clock

    def room(self, tokens: int) -> bool:
        """Whether the model has a position for so many tokens."""
        return self.model.max_positions is None or tokens <= self.model.max_positions

    def weight_bytes(self) -> int:
        """Of parameters and buffers, each once."""
        held = [*self.model.parameters(), *self.model.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def prefill(self, tokens: int) -> float:
        """Seconds to read a prompt of so many tokens."""
        prompt = self._prompt(tokens)
        return self._timed(lambda: self._read(prompt, tokens))[0]

    def generate(self, tokens: int) -> float:
        """Seconds of a token, the mean over so many steps behind a prompt of one token."""
        prompt = self._prompt(1)
        logits, state = self._read(prompt, 1 + tokens)
        return self._timed(lambda: self._steps(logits, state, tokens))[0] / tokens

    def at(self, context: int, steps: int) -> Seconds:
        """Seconds to read `context` tokens, and of each of the `steps` behind them."""
        room = self.room(context + steps)
        prompt = self._prompt(context)
        prefill, (logits, state) = self._timed(lambda: self._read(prompt, context + steps if room else context))
        if not room:
            return Seconds(prefill, None)
        return Seconds(prefill, self._timed(lambda: self._steps(logits, state, steps))[0] / steps)

    def working_bytes(self, tokens: int) -> int | None:
        """The most bytes at once beyond the weights while a prompt of so many tokens is read, its state included."""
        prompt = self._prompt(tokens)
        return peak_of(lambda: self._read(prompt, tokens), self.plan.device)

    def _timed(self, call: Callable[[], Any]) -> tuple[float, Any]:
        synchronise(self.plan.device)
        started = self.clock()
        found = call()
        synchronise(self.plan.device)
        return self.clock() - started, found

    @torch.no_grad()
    def _read(self, prompt: Int[Tensor, "1 T"], capacity: int) -> tuple[Tensor, Any]:
        with self.plan.autocast():
            hidden, state = self.model.hidden(prompt, self.model.initial_state(1, capacity))
            return self.model.head(hidden[:, -1]), state

    @torch.no_grad()
    def _steps(self, logits: Tensor, state: Any, tokens: int) -> None:
        with self.plan.autocast():
            for _ in range(tokens):
                logits, state = self.model.step(logits.argmax(-1), state)

    def _prompt(self, tokens: int) -> Int[Tensor, "1 T"]:
        generator = np.random.Generator(np.random.PCG64(derive(self.seed, "inference", tokens)))
        ids = generator.integers(self.model.vocab_size, size=(1, tokens), dtype=np.int64)
        return torch.from_numpy(ids).to(self.plan.device)
