"""Decodes token by token with buffers of its own, each step in Python or as one compiled graph.

Shapes: B rows, T tokens of a prompt, V vocabulary.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.model.lm import LanguageModel
from assay.model.plan import missing_compiler
from assay.step_graph import StepGraph

Tell = Callable[[str], None]


class Decoder:
    """Reads prompts in parallel form and decodes them in lock step, one `step` a token, up to `capacity` tokens a row.

    With `compiled` a step is one graph that writes the state in place, made at the first step (some ten seconds) and
    used for all prompts after it, each with the weights as they are at its first step; the model must then keep them
    where they are, and until the next prompt as they are. Where it cannot be made, `tell` hears why in one line and the
    steps run in Python; the attribute `compiled` says which it is. The model is to be in evaluation mode; gradients are
    not formed.
    """

    def __init__(
        self, model: LanguageModel, batch: int, capacity: int, *, compiled: bool = False, tell: Tell = lambda _: None
    ) -> None:
        self.model = model
        self.batch = batch
        self.capacity = capacity
        self.compiled = compiled
        if compiled and (missing := missing_compiler(str(model.head_weight.device))):
            tell(f"decoding: {missing}; running without compiling")
            self.compiled = False
        self.position = 0
        """The number of tokens read."""
        self._tell = tell
        self._state = model.initial_state(batch, capacity)
        self._graph: StepGraph | None = None
        self._filled = False

    @torch.no_grad()
    def start(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        """Forget all and read `ids`; the logits after the last of them. A ValueError where there is no room."""
        self._refuse(len(ids), ids.shape[1])
        hidden, self._state = self.model.hidden(ids, self.model.initial_state(self.batch, self.capacity))
        self.position, self._filled = ids.shape[1], False
        return self.model.head(hidden[:, -1])

    @torch.no_grad()
    def step(self, ids: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Read one more token a row; the logits after it. A ValueError where there is no room."""
        self._refuse(len(ids), self.position + 1)
        if self.compiled and not self._filled:
            self._fill(ids)
        if self._graph is not None and self._filled:
            logits = self._graph(ids)
        else:
            logits, self._state = self.model.step(ids, self._state)
        self.position += 1
        return logits

    def _fill(self, ids: Tensor) -> None:
        """Put the state where the graph reads it; the first time make the graph, by a step that is forgotten."""
        try:
            if self._graph is None:
                graph = StepGraph(self.model, self._state, self.capacity)
                graph(ids)
                self._graph = graph
            self._graph.fill(self._state)
            self._filled = True
        except Exception as error:  # whatever it is: if the model is at fault, the step in Python says so next
            self.compiled = False
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = " ".join(lines[:2]) or type(error).__name__
            self._tell(f"decoding: cannot be compiled here ({why}); running without compiling")

    def _refuse(self, rows: int, tokens: int) -> None:
        most = self.model.max_positions
        if rows != self.batch:
            raise ValueError(f"{rows} rows given; the decoder has {self.batch}")
        if tokens > self.capacity:
            raise ValueError(f"{tokens} tokens given; the decoder has room for {self.capacity}")
        if most is not None and tokens > most:
            raise ValueError(f"{tokens} tokens given; the model has {most} learned positions")
