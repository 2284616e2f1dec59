"""The interface of a task in words: a named generator of examples, whatever tokenizer cuts them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.config import Config
from assay.data.corpus import Split
from assay.data.worded.examples import Example
from assay.data.worded.words import Words


@dataclass(frozen=True)
class TextTask:
    """A named generator of text with a question at its end. Its functions take first an instance of `axes`."""

    name: str
    summary: str
    citation: str
    axes: type[Config]
    """The configuration of its difficulty; each axis has a default."""
    examples: Callable[[Any, Words, Split, int, int, np.random.Generator], list[Example]]
    """(axes, words, split, rows, context, generator) -> `rows` examples that fit.

    BOS, the pieces and all but the last token of the answer are at most `context` tokens.
    """
    longest: Callable[[Any, Words], int]
    """The smallest context that holds every example."""
    reads_corpus: Callable[[Any], bool] = lambda _: False
    """Whether it takes stretches of the run's corpus."""
    twin: Callable[[Any, Example, np.random.Generator], Iterable[Example]] | None = None
    """(axes, example, generator) -> the same question after contexts that say other answers, in random order.

    The first whose context has as many tokens is taken; there may be none.
    """
    in_training: Callable[[Any, float], Any] = lambda axes, _: axes
    """(axes, share of the training that is done, 0 to below 1) -> the axes that it trains on then: a curriculum."""
    version: int = 1
    """To be increased when `examples` changes what it returns."""
