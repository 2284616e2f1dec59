"""Small models whose inner workings are known because they were planted: what measurements must find again.

    identity blocks     scaled(1.0): a block that adds nothing
    a gain              scaled(1.0, 3.0): block 1 multiplies the residual stream by 3
    a known decay       Leaky(decay): s_t = decay s_{t-1} + x_t, and the state is the output
    singular values     state_of_rank(d, r): a matrix with r equal singular values
    a short memory      seeing(w): predicts from the token w - 1 before the current one, and from nothing else
    coded bits          Coding(bits, size): a state that holds the last token's bits linearly, beside noise

Shapes: B batch, T tokens, D width, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.scoring import ScoringWindows
from assay.layers.basic import ChannelMixer, PathTap
from assay.layers.mixer import Layer, SequenceLayer, Shared, State
from assay.model.lm import Block, Embedding, LanguageModel

VOCABULARY, WIDTH = 16, 16


class Nothing(Layer):
    """Stands where a norm would."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def reset_parameters(self, generator: torch.Generator) -> None:
        pass


class Scaling(ChannelMixer):
    """y = (factor - 1) x: with the residual connection, the block multiplies by `factor`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, state: State | None = None, shared: Shared | None = None) -> tuple[Tensor, State]:
        return (self.factor - 1) * x, ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        pass


class LeakyState(NamedTuple):
    """The sum so far, [B, D]."""

    memory: Tensor


class Leaky(SequenceLayer):
    """y_t = s_t - x_t with s_t = decay s_{t-1} + x_t: a linear recurrence of known half-life ln 2 / -ln(decay)."""

    def __init__(self, width: int, decay: float) -> None:
        super().__init__()
        self.width, self.decay = width, decay

    def forward(
        self, x: Tensor, state: LeakyState | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, LeakyState]:
        sum_so_far = torch.zeros_like(x[:, 0]) if state is None else state.memory
        sums = []
        for token in x.unbind(1):
            sum_so_far = self.decay * sum_so_far + token
            sums.append(sum_so_far)
        return torch.stack(sums, 1) - x, LeakyState(sum_so_far)

    def initial_state(self, batch: int, capacity: int | None = None) -> LeakyState:
        return LeakyState(torch.zeros(batch, self.width))

    def reset_parameters(self, generator: torch.Generator) -> None:
        pass


class DelayState(NamedTuple):
    """The last inputs, [B, tokens, D]."""

    last: Tensor


class Delay(SequenceLayer):
    """y_t = x_{t - tokens} - x_t, so that a block passes on what was `tokens` before; zeros before the first."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.width, self.tokens = width, tokens

    def forward(
        self, x: Tensor, state: DelayState | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, DelayState]:
        before = self.initial_state(len(x)).last.to(x) if state is None else state.last
        both = torch.cat([before, x], 1)
        return both[:, : x.shape[1]] - x, DelayState(both[:, x.shape[1] :])

    def initial_state(self, batch: int, capacity: int | None = None) -> DelayState:
        return DelayState(torch.zeros(batch, self.tokens, self.width))

    def reset_parameters(self, generator: torch.Generator) -> None:
        pass


class TwoPaths(SequenceLayer):
    """A delay: the tap `left_path` sees a share of its output, `right_path` the rest, and their sum is the output."""

    def __init__(self, width: int, tokens: int, left: float) -> None:
        super().__init__()
        self.delay, self.left = Delay(width, tokens), left
        self.left_path, self.right_path = PathTap(), PathTap()

    def forward(
        self, x: Tensor, state: DelayState | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, DelayState]:
        y, new = self.delay(x, state, shared)
        return self.left_path(self.left * y) + self.right_path((1 - self.left) * y), new

    def initial_state(self, batch: int, capacity: int | None = None) -> DelayState:
        return self.delay.initial_state(batch)

    def reset_parameters(self, generator: torch.Generator) -> None:
        pass


class CodeState(NamedTuple):
    """What is held, [B, size], and a number that follows from the tokens read, [B]."""

    memory: Tensor
    last: Tensor


class Coding(SequenceLayer):
    """Holds the bits of the last token linearly in a state of `size` numbers; adds nothing to its input.

    The state is sum over bits b of (2 b - 1) c_b + noise: the numbers of each code c_b have a deviation of 1, those of
    the noise of `noise`. The noise is one of 64 drawn vectors, turned by a number that follows from the tokens read.
    """

    def __init__(self, bits: int, size: int, noise: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.bits, self.size = bits, size
        generator = torch.Generator().manual_seed(seed)
        self.codes = torch.randn(bits, size, generator=generator)
        self.noise = noise * torch.randn(64, size, generator=generator)

    def forward(
        self, x: Tensor, state: CodeState | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, CodeState]:
        assert shared is not None
        ids = shared["ids"]
        read = (0 if state is None else state.last) + (ids * torch.arange(7, 7 + ids.shape[1])).sum(1)
        signs = (2 * ((ids[:, -1:] >> torch.arange(self.bits)) & 1) - 1).float()
        turned = [self.noise[number % 64].roll(31 * number) for number in read.tolist()]
        return torch.zeros_like(x), CodeState(signs @ self.codes + torch.stack(turned), read)

    def initial_state(self, batch: int, capacity: int | None = None) -> CodeState:
        return CodeState(torch.zeros(batch, self.size), torch.zeros(batch, dtype=torch.long))

    def reset_parameters(self, generator: torch.Generator) -> None:
        pass


def model_of(
    mixers: Sequence[SequenceLayer], vocabulary: int = VOCABULARY, width: int = WIDTH, tables: Tensor | None = None
) -> LanguageModel:
    """A model of these mixers without norms and MLPs; table and head are random, or `tables` [V, D] for both."""

    def draw(tensor: Tensor, generator: torch.Generator) -> None:
        nn.init.normal_(tensor, 0.0, 1.0, generator=generator)

    embedding = Embedding(vocabulary, width, None, None, draw)
    model = LanguageModel(embedding, [Block(mixer, None, Nothing) for mixer in mixers], Nothing(), draw)
    with torch.no_grad():
        for index, table in enumerate((embedding.tokens, model.untied_head)):
            assert table is not None
            draw(table.data, torch.Generator().manual_seed(index))
            if tables is not None:
                table.copy_(tables)
    return model.eval()


def scaled(*factors: float) -> LanguageModel:
    """Blocks that multiply the residual stream by known factors; a factor of 1 is an identity block."""
    return model_of([Scaling(factor) for factor in factors])


def leaky(decay: float) -> LanguageModel:
    """One block that sums its inputs with a known decay."""
    return model_of([Leaky(WIDTH, decay)])


def seeing(tokens: int, confidence: float = 6.0) -> LanguageModel:
    """Says that the next token is the one `tokens` - 1 before the current one: of its last `tokens` all but one are
    nothing to it.

    Before there are so many it says nothing: all V tokens are alike to it.
    """
    return model_of([Delay(VOCABULARY, tokens - 1)], VOCABULARY, VOCABULARY, table_of(confidence))


def table_of(confidence: float) -> Tensor:
    """Table and head with which a token that is passed on whole has a logit of `confidence`, all others 0."""
    return math.sqrt(confidence) * torch.eye(VOCABULARY)


def state_of_rank(size: int, rank: int, seed: int = 0) -> Tensor:
    """A matrix [size, size] with `rank` equal singular values and no others."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(size, size, generator=generator))[0][:, :rank] for _ in range(2))
    return left @ right.T


def repeating(windows: int, context: int, period: int, seed: int = 0, vocabulary: int = VOCABULARY) -> ScoringWindows:
    """Random text where each token is the one `period` before it, but one in ten, which is drawn anew.

    The token that decides on the next is `period` - 1 before the current one; every window is a source of its own.
    """
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, vocabulary, (windows, context + 1))
    for place in range(period, context + 1):
        kept = draw.random(windows) >= 0.1
        ids[:, place] = np.where(kept, ids[:, place - period], ids[:, place])
    return text(ids)


def random_text(windows: int, context: int, seed: int = 0, vocabulary: int = VOCABULARY) -> ScoringWindows:
    """Tokens that follow from nothing; every window is a source of its own."""
    return text(np.random.default_rng(seed).integers(0, vocabulary, (windows, context + 1)))


def text(ids: np.ndarray) -> ScoringWindows:
    """Windows of tokens [N, C + 1], each a document and source of its own."""
    number = np.arange(len(ids))
    size = np.full(len(ids), ids.shape[1] - 1)
    return ScoringWindows(ids[:, :-1], ids[:, 1:], number, number, np.zeros_like(number), size)
