"""Where stochastic layers draw from: a seed that the caller gives, never one of torch's generators.

A draw is a hash of the seed, of the layer's place in the model and of the number's place in its tensor: integer
operations without a state, which give the same on every device and break no compiled graph.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

WORD = 0xFFFFFFFF
"""The numbers that are hashed have 32 bits, kept in int64, so that no product overflows."""

PLACES = 1 << 16
"""More than the stochastic layers of any model: the n-th mask of a layer has a place of its own."""

Source = Callable[[Sequence[int]], Tensor]
"""A function from a shape to a tensor of that shape with numbers from 0 to 1."""


class Masking(nn.Module):
    """Draws masks from the seed of the surrounding `seeded`; outside of one, call number n draws from seed n."""

    def __init__(self) -> None:
        super().__init__()
        self.place = 0
        """The layer's number in its model, so that layers draw different masks; `seeded` sets it."""
        self.drawn = 0
        """How many masks it has drawn since it was given a seed: each is another."""
        self.seed: Tensor | None = None
        self.source: Source | None = None
        self.calls = torch.zeros((), dtype=torch.int64, device="cpu")
        """How often a mask was drawn without a seed."""

    def keep(self, shape: Sequence[int], drop: float, like: Tensor) -> Tensor:
        """A mask of `shape`: zero with probability `drop`, else 1 / (1 - drop); type and device of `like`."""
        if self.source is not None:
            kept = (self.source(shape) >= drop).to(like)
        else:
            seed, drawn = self.seed, self.drawn
            if seed is None:
                seed, drawn = self.calls.clone(), 0
                self.calls.add_(1)
            else:
                self.drawn = drawn + 1
            words = random_words(shape, seed.to(like.device), self.place + PLACES * drawn)
            kept = (words >= round(drop * (WORD + 1))).to(like)
        return kept / (1 - drop)


class Dropout(Masking):
    """x * mask / (1 - p) in training, x otherwise (Srivastava et al. 2014)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return x * self.keep(x.shape, self.p, x) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


@contextmanager
def seeded(model: nn.Module, seed: int | Int[Tensor, ""]) -> Iterator[None]:
    """Inside the block every stochastic layer of `model` draws from `seed`: the same seed gives the same masks."""
    layers = numbered_maskings(model)
    set_seed(layers, torch.as_tensor(seed, dtype=torch.int64))
    try:
        yield
    finally:
        set_seed(layers, None)


def set_seed(layers: Sequence[Masking], seed: Int[Tensor, ""] | None) -> None:
    """Let the `layers`, which have their places, draw from `seed` from now on; with None each for itself again."""
    for layer in layers:
        layer.seed, layer.drawn = seed, 0


def numbered_maskings(model: nn.Module) -> list[Masking]:
    """The stochastic layers of `model`, each with a place of its own, so that no two draw alike."""
    layers = maskings(model)
    for place, layer in enumerate(layers):
        layer.place = place
    return layers


@contextmanager
def drawn_by(model: nn.Module, source: Source) -> Iterator[None]:
    """Inside the block every stochastic layer of `model` draws from `source`."""
    layers = maskings(model)
    for layer in layers:
        layer.source = source
    try:
        yield
    finally:
        for layer in layers:
            layer.source = None


def maskings(model: nn.Module) -> list[Masking]:
    """The stochastic layers of `model`, in the order of its modules."""
    return [module for module in model.modules() if isinstance(module, Masking)]


def random_words(shape: Sequence[int], seed: Int[Tensor, ""], place: int) -> Int[Tensor, "..."]:
    """Pseudo-random int64 numbers, uniform on 0...2^32 - 1, each a function of `seed`, `place` and its index.

    The seed's 64 bits enter each number as two halves, one per round of the hash, so that two seeds share no sequence.
    """
    size = 1
    for length in shape:
        size *= length
    of_place = mixed(torch.full_like(seed, place & WORD))
    low, high = mixed((seed & WORD) ^ of_place), mixed(((seed >> 32) & WORD) ^ mixed(of_place + 1 & WORD))
    numbers = torch.arange(size, device=seed.device)
    return mixed(mixed(numbers & WORD ^ low) ^ high).view(*shape)


def mixed(word: Tensor) -> Tensor:
    """A one-to-one map of 32-bit words: a change of one input bit changes about half of the output bits.

    The integer hash of Thomas Mueller (two rounds of shift, exclusive or and multiplication), on int64 tensors.
    """
    word = ((word >> 16) ^ word) * 0x45D9F3B & WORD
    word = ((word >> 16) ^ word) * 0x45D9F3B & WORD
    return (word >> 16) ^ word
