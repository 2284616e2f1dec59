"""The language model of every architecture: an embedding, blocks of two residual layers, a norm and a head.

Shapes: B batch, T tokens of this call, D d_model, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from assay.layers.mixer import Layer, SequenceLayer, Shared, State
from assay.layers.randomness import Dropout, numbered_maskings
from assay.ops.execution import Execution

Draw = Callable[[Tensor, torch.Generator], object]
"""Fills a tensor in place from a generator."""


class Part(NamedTuple):
    """A part that is initialised from its own generator: its role, its draw, the index of its block (0 if in none)."""

    role: str
    draw: Callable[[torch.Generator], object]
    block: int = 0


def table_part(role: str, table: Tensor, draw: Draw) -> Part:
    """A parameter that the model owns directly (a table), as a part."""
    return Part(role, lambda generator: draw(table.data, generator))


class BlockState(NamedTuple):
    """The states of a block's mixer and of its channel mixer (`()` where there is none)."""

    mixer: State
    channel_mixer: State


class ModelState(NamedTuple):
    """The state of a model: the number of tokens it has seen, and one state per block."""

    position: int | Int[Tensor, ""]
    blocks: tuple[BlockState, ...]


class Embedding(Layer):
    """Token table, plus learned positions, a norm and dropout where the architecture has them."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"tokens": True, "positions": False}
    positions: nn.Parameter | None

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        max_positions: int | None,
        norm: Layer | None,
        draw: Draw,
        position_draw: Draw | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(vocab_size, d_model))
        positions = None if max_positions is None else nn.Parameter(torch.empty(max_positions, d_model))
        self.register_parameter("positions", positions)
        self.norm = norm
        self.dropout = Dropout(dropout)
        self.max_positions = max_positions
        self._draw = draw
        self._position_draw = position_draw or draw

    def forward(self, ids: Int[Tensor, "B T"], position: int | Int[Tensor, ""] = 0) -> Float[Tensor, "B T D"]:
        """Embed `ids`, the first of which is at `position`; a ValueError where there are no positions left.

        A position on the device is not checked, as that would wait for it.
        """
        x = F.embedding(ids, self.tokens)
        if self.positions is not None and isinstance(position, Tensor):
            x = x + self.positions[position + torch.arange(ids.shape[1], device=ids.device)]
        elif self.positions is not None:
            end = position + ids.shape[1]
            if end > len(self.positions):
                raise ValueError(f"{end} tokens given; the model has {len(self.positions)} learned positions")
            x = x + self.positions[position:end]
        x = x if self.norm is None else self.norm(x)
        dropped: Tensor = self.dropout(x)
        return dropped

    def parts(self) -> Iterator[Part]:
        """The tables, then the norm."""
        yield table_part("tokens", self.tokens, self._draw)
        if self.positions is not None:
            yield table_part("positions", self.positions, self._position_draw)
        if self.norm is not None:
            yield Part("embedding_norm", self.norm.reset_parameters)

    def reset_parameters(self, generator: torch.Generator) -> None:
        for part in self.parts():
            part.draw(generator)


class UndecayedEmbedding(Embedding):
    """The same for authors who apply no weight decay to their token table."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"tokens": False, "positions": False}


class Block(nn.Module):
    """x + mixer(norm(x)), then x + channel_mixer(norm(x)) where there is one; dropout on what is added."""

    def __init__(
        self,
        mixer: SequenceLayer,
        channel_mixer: SequenceLayer | None,
        norm: Callable[[], Layer],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mixer_norm = norm()
        self.mixer = mixer
        self.channel_mixer_norm = None if channel_mixer is None else norm()
        self.channel_mixer = channel_mixer
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B T D"], state: BlockState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], BlockState]:
        y, mixer_state = self.mixer(self.mixer_norm(x), state and state.mixer, shared)
        x = x + self.dropout(y)
        if self.channel_mixer is None or self.channel_mixer_norm is None:
            return x, BlockState(mixer_state, ())
        y, channel_state = self.channel_mixer(self.channel_mixer_norm(x), state and state.channel_mixer, shared)
        return x + self.dropout(y), BlockState(mixer_state, channel_state)

    def layers(self) -> list[SequenceLayer]:
        """The mixer, and the channel mixer where there is one."""
        return [self.mixer] if self.channel_mixer is None else [self.mixer, self.channel_mixer]


class LanguageModel(Layer):
    """ids [B, T] -> logits [B, T, V]. With a `head_draw` of None the head is the token table (tied)."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"untied_head": True}
    untied_head: nn.Parameter | None

    def __init__(
        self, embedding: Embedding, blocks: Sequence[Block], norm: Layer, head_draw: Draw | None = None
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        head = None if head_draw is None else nn.Parameter(torch.empty(embedding.tokens.shape))
        self.register_parameter("untied_head", head)
        self._head_draw = head_draw
        numbered_maskings(self)

    @property
    def vocab_size(self) -> int:
        return self.embedding.tokens.shape[0]

    @property
    def max_positions(self) -> int | None:
        """The longest context the model can read, None where there is no limit."""
        return self.embedding.max_positions

    @property
    def head_weight(self) -> Tensor:
        """[V, D], the token table itself where the head is tied."""
        return self.embedding.tokens if self.untied_head is None else self.untied_head

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        return self.head(self.hidden(ids)[0])

    def hidden(
        self, ids: Int[Tensor, "B T"], state: ModelState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], ModelState]:
        """(last hidden states after the final norm, state after `ids`); a loss can then apply the head in chunks.

        A caller that gives an empty `shared` finds in it afterwards what layers published for each other.
        """
        position = 0 if state is None else state.position
        x = self.embedding(ids, position)
        shared = {} if shared is None else shared
        shared["ids"] = ids
        states = []
        for index, block in enumerate(self.blocks):
            x, block_state = block(x, state and state.blocks[index], shared)
            states.append(block_state)
        return self.norm(x), ModelState(position + ids.shape[1], tuple(states))

    def head(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        return F.linear(hidden, self.head_weight)

    def prefill(
        self, ids: Int[Tensor, "B T"], state: ModelState | None = None
    ) -> tuple[Float[Tensor, "B T V"], ModelState]:
        """Logits of all positions and the state after them."""
        hidden, state = self.hidden(ids, state)
        return self.head(hidden), state

    def step(self, ids: Int[Tensor, " B"], state: ModelState) -> tuple[Float[Tensor, "B V"], ModelState]:
        """The logits and the state after one more token per sequence."""
        logits, state = self.prefill(ids[:, None], state)
        return logits[:, 0], state

    def initial_state(self, batch: int, capacity: int | None = None) -> ModelState:
        """The state before the first token; `capacity` tokens of room where a state grows."""
        states = []
        for block in self.sequence_blocks():
            layer_states = [layer.initial_state(batch, capacity) for layer in block.layers()]
            states.append(BlockState(*layer_states) if len(layer_states) == 2 else BlockState(layer_states[0], ()))
        return ModelState(0, tuple(states))

    def fixed_state(self, state: ModelState, capacity: int) -> ModelState:
        """`state` for `step` as tensors alone, whose shapes stay as they are up to `capacity` tokens.

        `SequenceLayer.fixed_state` of every layer. The position is one tensor for all of them.
        """
        position = torch.as_tensor(state.position, device=self.head_weight.device).clone()
        blocks = []
        for block, of in zip(self.sequence_blocks(), state.blocks, strict=True):
            mixer = block.mixer.fixed_state(of.mixer, capacity, position)
            channel = block.channel_mixer
            blocks.append(
                BlockState(mixer, () if channel is None else channel.fixed_state(of.channel_mixer, capacity, position))
            )
        return ModelState(position, tuple(blocks))

    def parts(self) -> Iterator[Part]:
        """All parts of the model; every parameter is in exactly one."""
        yield from self.embedding.parts()
        for index, block in enumerate(self.sequence_blocks()):
            for role in ("mixer_norm", "mixer", "channel_mixer_norm", "channel_mixer"):
                layer: Layer | None = getattr(block, role)
                if layer is not None:
                    yield Part(role, layer.reset_parameters, index)
        yield Part("norm", self.norm.reset_parameters)
        if self.untied_head is not None and self._head_draw is not None:
            yield table_part("untied_head", self.untied_head, self._head_draw)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the parts one after the other; `assay.model.initialisation` gives each a generator of its own."""
        for part in self.parts():
            part.draw(generator)

    def sequence_blocks(self) -> list[Block]:
        """The blocks as a list of `Block`; a ModuleList gives type checkers plain modules."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def set_execution(self, execution: Execution) -> None:
        """Fix the form and chunk length of every op."""
        for module in self.modules():
            if isinstance(module, SequenceLayer):
                module.execution = execution
