"""The task `needle`: a fact among text that has nothing to do with it, and a question about it at the end.

    Anna has a red hat. The sky is blue. The sky is blue. What does Anna have? red

`kind=facts` is this one. The others are the single needles of RULER (Hsieh et al. 2024, arXiv 2404.06654): `passkey`, a
number in repeated noise (S-NIAH-1), `number`, one in stretches of the run's corpus (S-NIAH-2), and `uuid`, a random
identifier there (S-NIAH-3). The answer alone is a target; its candidates are the colours, or other numbers of its form.
"""

import itertools
import uuid
from collections.abc import Iterator, Mapping
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from assay.config import Config
from assay.data.corpus import Split
from assay.data.task import TASKS
from assay.data.worded.examples import Example, Piece, third
from assay.data.worded.task import TextTask
from assay.data.worded.words import Words

NAMES = ("Alice", "Bob", "Carol", "Dave", "Eve", "Frank", "Grace", "Henry")
OBJECTS = ("ball", "car", "hat", "book", "pen", "cup", "ring", "lamp")
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "pink", "white")
DISTRACTOR = " The sky is blue."
STAGES = (0.0, 0.1, 0.3, 0.5, 1.0)
"""A curriculum's distractors in equal parts of the training, as shares of those of the test: 0, 10, 30, 50, 100."""
FULL = 100

NOISE = " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
KEYS = tuple(
    f"{first} {second}"
    for first in ("quiet", "golden", "hollow", "rapid", "silver", "narrow", "gentle", "broken")
    for second in ("harbour", "lantern", "meadow", "violin", "compass", "orchard", "glacier", "pillow")
)
DIGITS = 7
FORMS: Mapping[str, str] = {"passkey": "number", "number": "number", "uuid": "identifier"}


class Axes(Config):
    """What is hidden, in how much text, and where."""

    kind: Literal["facts", "passkey", "number", "uuid"] = "facts"
    distractors: int | None = Field(None, ge=0)
    """Sentences beside the facts, of `kind=facts`; None fills the context, or with a curriculum is 100."""
    length: int | None = Field(None, ge=2)
    """Tokens of a sequence at most, where the context is filled; None is the context."""
    needles: int = Field(1, ge=1, le=8)
    """Facts about as many names, or numbers with as many keys, of which one is asked."""
    depth: float | None = Field(None, ge=0, le=1)
    """Where the fact that is asked about stands: 0 first, 1 last; None anywhere."""
    curriculum: bool = False
    """Whether training begins without distractors and has those of the test in its last fifth."""
    candidates: int = Field(8, ge=2, le=64)
    """Numbers among which the right one must be the likeliest, of the other kinds."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind != "facts" and (self.curriculum or self.distractors is not None):
            name = "curriculum" if self.curriculum else "distractors"
            raise ValueError(f"{name}={getattr(self, name)}: kind={self.kind} fills its length; kind=facts would do")
        if self.sentences is not None and self.length is not None:
            raise ValueError(f"length={self.length}: {self.sentences} distractors make the length; give one of them")
        if self.candidates < self.needles:
            raise ValueError(
                f"needles={self.needles}: there are {self.candidates} candidates; at most as many would do"
            )
        return self

    @property
    def sentences(self) -> int | None:
        """The distractors of the test; None fills the length."""
        return FULL if self.curriculum and self.distractors is None else self.distractors


def in_training(axes: Axes, done: float) -> Axes:
    """The axes of a share of the training: with a curriculum those of its stage."""
    if not axes.curriculum:
        return axes
    share = STAGES[min(len(STAGES) - 1, int(done * len(STAGES)))]
    return axes.model_copy(update={"distractors": round(share * (axes.sentences or 0))})


def examples(
    axes: Axes, words: Words, split: Split, rows: int, context: int, generator: np.random.Generator
) -> list[Example]:
    """Independent examples."""
    if axes.kind == "facts":
        return [_fact(axes, words, context, generator) for _ in range(rows)]
    return [_number(axes, words, split, context, generator) for _ in range(rows)]


def twin(axes: Axes, example: Example, generator: np.random.Generator) -> Iterator[Example]:
    """Another colour of another thing, or another number, in place of the one that is asked for."""
    if axes.kind != "facts":
        for value in _values(axes, generator):
            yield example.with_other_answer(f" {value}")
        return
    (place,) = example.facts
    name, said = example.pairs[0][0], {colour for _, colour in example.pairs}
    others = [*itertools.product([colour for colour in COLOURS if colour not in said], OBJECTS)]
    for at in generator.permutation(len(others)):
        fact = _said(name, *others[at])
        yield example.saying(f" {others[at][0]}", {place: fact if place else fact.removeprefix(" ")})


def longest(axes: Axes, words: Words) -> int:
    """Of facts with their distractors; where the context is filled, with one stretch of filler."""
    if axes.kind != "facts":
        return _frame_of_number(axes, words) + max(words.tokens(NOISE), 8)
    return _frame_of_facts(axes, words) + max(1, axes.sentences or 0) * words.tokens(DISTRACTOR)


def _fact(axes: Axes, words: Words, context: int, generator: np.random.Generator) -> Example:
    names = [NAMES[at] for at in generator.permutation(len(NAMES))[: axes.needles]]
    colours = [COLOURS[at] for at in generator.permutation(len(COLOURS))[: axes.needles]]
    things = [OBJECTS[at] for at in generator.integers(0, len(OBJECTS), axes.needles)]
    facts = [_said(*of) for of in zip(names, colours, things, strict=True)]
    if (sentences := axes.sentences) is None:
        room = min(context, axes.length or context) - _frame_of_facts(axes, words)
        sentences = max(0, room // words.tokens(DISTRACTOR))
    pieces, place = _hidden(facts, [DISTRACTOR] * sentences, axes.depth, generator)
    pieces[0] = pieces[0].removeprefix(" ")
    mentioned = [next((c for c in COLOURS if f" {c}" in piece), "") for piece in pieces]
    return Example(
        pieces=[*pieces, _asked(names[0])],
        answer=f" {colours[0]}",
        candidates=[f" {colour}" for colour in COLOURS],
        facts=[place],
        possible=len(COLOURS),
        mentioned=[f" {colour}" for colour in mentioned],
        kind="facts",
        levels={"depth": third(place, len(pieces))},
        pairs=list(zip(names, colours, strict=True)),
    )


def _number(axes: Axes, words: Words, split: Split, context: int, generator: np.random.Generator) -> Example:
    keys = [KEYS[at] for at in generator.permutation(len(KEYS))[: axes.needles]]
    values = _values(axes, generator)
    facts = [_told(axes, key, value) for key, value in zip(keys, values, strict=False)]
    room = min(context, axes.length or context) - _frame_of_number(axes, words)
    if axes.kind == "passkey":
        filler = [NOISE] * max(0, room // words.tokens(NOISE))
        hidden, place = _hidden(facts, filler, axes.depth, generator)
        pieces: list[Piece] = list(hidden)
        share = third(place, len(pieces))
    else:
        pieces, place, share = _in_essay(axes, words, words.stretch(split, room, generator), facts, generator)
    candidates = [f" {value}" for value in values]
    return Example(
        pieces=[_instruction(axes), *pieces, _question(axes, keys[0])],
        answer=candidates[0],
        candidates=candidates,
        facts=[place + 1],
        possible=9 * 10.0 ** (DIGITS - 1) if axes.kind != "uuid" else 2.0**122,
        mentioned=[f" {value}" for piece in pieces for value in values if isinstance(piece, str) and value in piece],
        kind=axes.kind,
        levels={"depth": share},
        pairs=list(zip(keys, values, strict=False)),
    )


def _hidden(
    facts: list[str], filler: list[str], depth: float | None, generator: np.random.Generator
) -> tuple[list[str], int]:
    """Facts in random order at random places among the filler; the first, at its depth. And the place of the first."""
    slots = generator.integers(0, len(filler) + 1, len(facts))
    if depth is not None:
        slots[0] = round(depth * len(filler))
    order = np.lexsort((generator.random(len(facts)), slots))
    pieces = list(filler)
    for put, fact in enumerate(order):
        pieces.insert(int(slots[fact]) + put, facts[fact])
    return pieces, int(slots[0]) + int(np.flatnonzero(order == 0)[0])


def _in_essay(
    axes: Axes, words: Words, essay: np.ndarray, facts: list[str], generator: np.random.Generator
) -> tuple[list[Piece], int, str]:
    """Facts behind ends of sentences of the essay, where it has some nearby; the place of the first, and its third."""
    ends = np.flatnonzero(words.ends_sentence(essay)) + 1
    wished = generator.integers(0, len(essay) + 1, len(facts))
    if axes.depth is not None:
        wished[0] = round(axes.depth * len(essay))
    cuts = wished if not len(ends) else np.array([ends[np.abs(ends - wish).argmin()] for wish in wished])
    order = np.lexsort((generator.random(len(facts)), cuts))
    pieces: list[Piece] = []
    place, begin = 0, 0
    for fact in order:
        if cuts[fact] > begin:
            pieces.append(essay[begin : cuts[fact]])
        begin = int(cuts[fact])
        place = len(pieces) if fact == 0 else place
        pieces.append(facts[fact])
    if begin < len(essay):
        pieces.append(essay[begin:])
    return pieces, place, third(int(cuts[0]), len(essay))


def _values(axes: Axes, generator: np.random.Generator) -> list[str]:
    """As many different values as there are candidates; the first is the answer's."""
    values: dict[str, None] = {}
    while len(values) < axes.candidates:
        if axes.kind == "uuid":
            values[str(uuid.UUID(bytes=generator.bytes(16), version=4))] = None
        else:
            values[str(generator.integers(10 ** (DIGITS - 1), 10**DIGITS))] = None
    return list(values)


def _said(name: str, colour: str, thing: str) -> str:
    return f" {name} has a {colour} {thing}."


def _asked(name: str) -> str:
    return f" What does {name} have?"


def _instruction(axes: Axes) -> str:
    return f"A special {FORMS[axes.kind]} is hidden in this text. Remember it.\n"


def _told(axes: Axes, key: str, value: str) -> str:
    return f" The special {FORMS[axes.kind]} of the {key} is: {value}."


def _question(axes: Axes, key: str) -> str:
    return f"\nWhat is the special {FORMS[axes.kind]} of the {key}? The special {FORMS[axes.kind]} of the {key} is:"


def _frame_of_facts(axes: Axes, words: Words) -> int:
    """The inputs that a sequence takes at most beside its distractors."""
    fact = words.most(_said(*of) for of in itertools.product(NAMES, COLOURS, OBJECTS))
    answer = words.most(f" {colour}" for colour in COLOURS)
    return axes.needles * fact + words.most(map(_asked, NAMES)) + answer


def _frame_of_number(axes: Axes, words: Words) -> int:
    """The inputs that a sequence takes at most beside its noise or essay; of a value each byte counts as a token."""
    value = 36 if axes.kind == "uuid" else DIGITS
    fact = words.most(_told(axes, key, "") for key in KEYS) + value
    return (
        words.tokens(_instruction(axes))
        + axes.needles * fact
        + words.most(_question(axes, key) for key in KEYS)
        + value
        + 1
    )


TASKS.register(
    "needle",
    TextTask(
        name="needle",
        summary="Say what a fact said that stands somewhere in a long text, in words",
        citation="Hsieh et al. 2024, RULER, arXiv 2404.06654; facts: GroundThink v7",
        axes=Axes,
        examples=examples,
        longest=longest,
        reads_corpus=lambda axes: axes.kind in ("number", "uuid"),
        twin=twin,
        in_training=in_training,
    ),
)
