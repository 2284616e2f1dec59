"""The task `cut-needle`: the needle of document 001 with its error, a text that is cut before its question is reached.

A fact, `distractors` sentences and a question, of which the first `cut` tokens are kept; what the fact said is the
answer there, wherever that is. With `loss=all` training has every token of the cut text, and the answer where it is not
cut off, as a target, as the document trained its models without attention; a test asks for the answer alone. It is a
record of an error: to measure recall, `needle` refuses a text that does not fit.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from assay.config import Config
from assay.data.corpus import Split
from assay.data.task import TASKS
from assay.data.tasks.needle import COLOURS, DISTRACTOR, NAMES, OBJECTS, STAGES
from assay.data.worded.examples import Example
from assay.data.worded.task import TextTask
from assay.data.worded.words import Words

ANSWERS = [f" {colour}" for colour in COLOURS]


class Axes(Config):
    """How much text there is, where it is cut, and what is learned of it."""

    distractors: int = Field(100, ge=0)
    cut: int = Field(300, ge=16)
    """Tokens that are kept, BOS and the answer apart."""
    loss: Literal["answer", "all"] = "answer"
    curriculum: bool = True


def in_training(axes: Axes, done: float) -> Axes:
    """0, 10, 30, 50 and 100% of the distractors in equal parts of the training."""
    share = STAGES[min(len(STAGES) - 1, int(done * len(STAGES)))] if axes.curriculum else 1.0
    return axes.model_copy(update={"distractors": round(share * axes.distractors)})


def examples(
    axes: Axes, words: Words, split: Split, rows: int, _: int, generator: np.random.Generator
) -> list[Example]:
    """Independent examples."""
    return [_example(axes, words, split, generator) for _ in range(rows)]


def _example(axes: Axes, words: Words, split: Split, generator: np.random.Generator) -> Example:
    name, thing, answer = (str(generator.choice(of)) for of in (NAMES, OBJECTS, ANSWERS))
    whole = [name, " has a", f"{answer} {thing}.", *[DISTRACTOR] * axes.distractors, f" What does {name} have?"]
    read = _cut(whole, axes.cut, words)
    if axes.loss == "all" and split == "train":
        # The document cut text and answer together, so that a text that was cut has no answer left to be learned.
        left = "" if len(read) < len(whole) or read[-1] != whole[-1] else answer
        return _of(read[:2], "".join(read[2:]) + left, answer)
    return _of(read, answer, answer)


def _of(pieces: list[str], target: str, answer: str) -> Example:
    others = [of for of in ANSWERS if of != answer] if target == answer else [answer]
    return Example(
        pieces=pieces,
        answer=target,
        candidates=[target, *others],
        facts=[min(2, len(pieces) - 2)],
        possible=len(ANSWERS),
        mentioned=[answer],
        kind="facts",
    )


def _cut(pieces: list[str], most: int, words: Words) -> list[str]:
    """The pieces up to `most` tokens, the last of them cut between two words."""
    kept: list[str] = []
    for piece in pieces:
        if words.tokens(*kept, piece) > most:
            parts = piece.split(" ")
            fitting = [" ".join(parts[:n]) for n in range(1, len(parts))]
            rest = [part for part in fitting if part and words.tokens(*kept, part) <= most]
            return [*kept, *rest[-1:]]
        kept.append(piece)
    return kept


def longest(axes: Axes, words: Words) -> int:
    """BOS, what is kept, and an answer."""
    return axes.cut + words.most(ANSWERS)


TASKS.register(
    "cut-needle",
    TextTask(
        name="cut-needle",
        summary="Say what a fact said, in a text that is cut before it asks: the error of document 001",
        citation="GroundThink v7 scaling experiment (document 001)",
        axes=Axes,
        examples=examples,
        longest=longest,
        in_training=in_training,
    ),
)
