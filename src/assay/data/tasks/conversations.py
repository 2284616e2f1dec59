"""The task `conversations`: what somebody said is asked for later in the same conversation, in words.

    User: Hi, I am Anna.
    User: My favourite colour is red.
    User: As for Ben, nothing but blue will do.
    User: What is my favourite colour?
    Bot: red

Its kinds: C1 recall of facts, C2 at depths of a long context, C3 preferences and their correction, C4 instructions, C5
persona, C6 conversations and users apart, T1 to T3 the same in three tiers, and R recall after 5 to 50 turns
(docs/conversations.md). No template and no pair of name and value is of two splits.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from assay.config import Config
from assay.data.corpus import Split
from assay.data.task import TASKS
from assay.data.worded.draw import Draw, LongestDraw
from assay.data.worded.examples import Example
from assay.data.worded.scenes import FILLING, SCENES, WITHOUT_UNSEEN, frame_of_depth
from assay.data.worded.task import TextTask
from assay.data.worded.words import Words

MINIMAL = ("C1a", "C1b", "C4a", "C5a")
LONG = (*FILLING, "R20", "R50")
SUITES: Mapping[str, tuple[str, ...]] = {
    "tiny": ("C1a", "C1e"),
    "minimal": MINIMAL,
    "standard": tuple(kind for kind in SCENES if kind not in LONG),
    "extended": tuple(SCENES),
}
SLACK = 1
"""Tokens a line that a word may take beside others more than by itself, for the longest conversation."""


class Axes(Config):
    """Which kinds of conversations, and of which values."""

    suite: Literal["tiny", "minimal", "standard", "extended"] = "minimal"
    kinds: list[str] = []
    """Kinds in place of a suite's, as [C3c, C6a]."""
    unseen: bool = False
    """Whether validation and test are about values that no training sequence holds."""
    length: int | None = Field(None, ge=2)
    """Tokens of the kinds that fill the context, at most; None is the context."""

    @model_validator(mode="after")
    def _known_kinds(self) -> Self:
        for kind in self.kinds:
            if kind not in SCENES:
                raise ValueError(f"kinds={kind}: unknown; {', '.join(SCENES)} would do")
        if self.unseen and not self.of("test"):
            raise ValueError(f"unseen=true: {', '.join(self.kinds)} cannot be about new values; C1a would do")
        if self.length is not None and not set(FILLING) & set(self.of("train")):
            raise ValueError(f"length={self.length}: none of the kinds fills it; kinds=[{FILLING[0]}] would do")
        return self

    def of(self, split: Split) -> tuple[str, ...]:
        """The kinds that a split has."""
        kinds = tuple(self.kinds) or SUITES[self.suite]
        return tuple(kind for kind in kinds if split == "train" or not self.unseen or kind not in WITHOUT_UNSEEN)


def examples(
    axes: Axes, words: Words, split: Split, rows: int, context: int, generator: np.random.Generator
) -> list[Example]:
    """Conversations of all kinds in turn, from one that is drawn on."""
    kinds = axes.of(split)
    room = min(context, axes.length or context)
    start = int(generator.integers(len(kinds)))
    return [
        SCENES[kind](Draw(split, generator, words, room, axes.unseen), kind)
        for row in range(rows)
        for kind in [kinds[(start + row) % len(kinds)]]
    ]


def twin(_: Axes, example: Example, generator: np.random.Generator) -> Iterator[Example]:
    """Another value that nobody mentions, where the answer is said word for word.

    It may be a pair of name and value that was trained on.
    """
    if example.says_its_answer():
        for at in generator.permutation(len(example.candidates)):
            if (answer := example.candidates[at]) not in (example.answer, *example.mentioned):
                yield example.with_other_answer(answer)


def longest(axes: Axes, words: Words) -> int:
    """Of the longest kind, with the longest of all that is drawn."""
    room = frame_of_depth(words)
    made = [SCENES[kind](LongestDraw(words, room), kind) for kind in axes.of("train")]
    return max(words.tokens(*one.pieces) + SLACK * len(one.pieces) + words.most(one.candidates) for one in made)


TASKS.register(
    "conversations",
    TextTask(
        name="conversations",
        summary="Say what somebody said earlier in the conversation, in words",
        citation="GroundThink's V5 gate: statefulness tests C1 to C6, tiers 1 to 3",
        axes=Axes,
        examples=examples,
        longest=longest,
        twin=twin,
    ),
)
