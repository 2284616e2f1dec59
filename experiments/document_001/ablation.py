"""How often a model finds the colour of a needle: as it is, with its memory set to zero, and without the fact."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from conditions import TOP
from torch import Tensor, nn

from assay.data.worded.dataset import TextTaskDataset
from assay.data.worded.examples import Example, Piece
from assay.layers.groundthink.reader import ReaderLayer
from assay.layers.groundthink.writer import MemoryLayer
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan

BATCH = 32


class Hits(NamedTuple):
    """[n], of each example."""

    top: np.ndarray
    """Whether the answer is among the TOP likeliest of all tokens, as the document counts."""
    chosen: np.ndarray
    """Whether it is the likeliest of the candidates."""


def hits(
    model: LanguageModel, plan: ExecutionPlan, dataset: TextTaskDataset, examples: Sequence[Example], facts: bool = True
) -> Hits:
    """What the model says right behind the text; answers are told apart by their first tokens."""
    words = dataset.words
    found = Hits(np.zeros(len(examples), dtype=bool), np.zeros(len(examples), dtype=bool))
    texts = [words.joined(pieces_of(one, facts)) for one in examples]
    lengths = np.array([len(text) for text in texts])
    for length in np.unique(lengths):  # without padding, which a model that leaks could read
        rows = np.flatnonzero(lengths == length)
        for low in range(0, len(rows), BATCH):
            batch = rows[low : low + BATCH]
            ids = torch.from_numpy(np.stack([texts[row] for row in batch])).to(plan.device)
            with torch.no_grad(), plan.autocast():
                logits = model.head(model.hidden(ids)[0][:, -1]).float().cpu().numpy()
            for row, of in zip(batch, logits, strict=True):
                one = examples[row]
                first = [int(words.ids(answer)[0]) for answer in one.candidates]
                right = int(words.ids(one.answer)[0])
                found.top[row] = (of > of[right]).sum() < TOP
                found.chosen[row] = first[int(np.argmax(of[first]))] == right
    return found


def pieces_of(example: Example, facts: bool) -> Sequence[Piece]:
    return example.pieces if facts else example.without_facts()


@contextmanager
def without_memory(model: LanguageModel) -> Iterator[None]:
    """What is read from the delta rule's memory is zero, in the layers that write it and in those that read it."""
    layers: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, MemoryLayer):
            layers.append(module.output)
        if isinstance(module, ReaderLayer):
            layers.append(module.memory_output)
    hooks = [layer.register_forward_pre_hook(_zeroed) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _zeroed(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return (torch.zeros_like(inputs[0]),)
