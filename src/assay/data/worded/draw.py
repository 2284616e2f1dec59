"""What is drawn for one conversation: ways to say things, names with values, numbers; and the longest of each."""

from collections.abc import Sequence

import numpy as np

from assay.data.corpus import Split
from assay.data.worded.templates import NAMES, SPLITS_IN_ORDER, Templates, Topic
from assay.data.worded.words import Words

Pair = tuple[str, str]
"""A name, and the value that is said of it."""


class Draw:
    """The draws of one conversation of a split; `unseen`: values that no training sequence holds, outside training.

    `room`: the tokens that it may take, for those that fill them.
    """

    def __init__(
        self, split: Split, generator: np.random.Generator, words: Words, room: int, unseen: bool = False
    ) -> None:
        self.split, self.words, self.room = split, words, room
        self.unseen = unseen and split != "train"
        self._generator = generator

    def say(self, templates: Templates, **words: str) -> str:
        """One of the split's templates, filled in."""
        return self.one(templates.of(self.split)).format(**words)

    def one(self, items: Sequence[str]) -> str:
        """One of them."""
        return items[int(self._generator.integers(len(items)))]

    def topic(self, topics: Sequence[Topic]) -> Topic:
        """One of them."""
        return topics[int(self._generator.integers(len(topics)))]

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return int(self._generator.integers(low, high + 1))

    def some(self, count: int, of: int) -> list[int]:
        """`count` different numbers below `of`, from the lowest on."""
        return sorted(self._generator.permutation(of)[:count].tolist())

    def values(self, topic: Topic) -> tuple[str, ...]:
        """The values that may be said now."""
        return topic.unseen if self.unseen else topic.values

    def people(self, topic: Topic, count: int, but: Sequence[Pair] = ()) -> list[Pair]:
        """So many pairs of the split, without a name or a value twice, nor one of those in `but`."""
        names, said = {name for name, _ in but}, {value for _, value in but}
        values = [value for value in self.values(topic) if value not in said]
        found: list[Pair] = []
        for at in self._generator.permutation(len(values))[:count].tolist():
            free = [of for of in NAMES if of not in names and topic.split_of(of, values[at]) == self.split]
            found.append((self.one(free), values[at]))
            names.add(found[-1][0])
        return found

    def value_for(self, topic: Topic, name: str, but: Sequence[str] = ()) -> str:
        """A value that the split may say of `name`; of unseen values any, as none of them is said in training."""
        values = [of for of in self.values(topic) if of not in but]
        return self.one([of for of in values if self.unseen or topic.split_of(name, of) == self.split])


class LongestDraw(Draw):
    """Draws of the most tokens: what is drawn of names, values and templates is at most about as long.

    `number` gives the least, by which conversations are at their longest.
    """

    def __init__(self, words: Words, room: int) -> None:
        generator = np.random.Generator(np.random.PCG64(0))  # nothing that is drawn from it changes a length
        super().__init__("train", generator, words, room)

    def say(self, templates: Templates, **words: str) -> str:
        return self.one([text.format(**words) for split in SPLITS_IN_ORDER for text in templates.of(split)])

    def one(self, items: Sequence[str]) -> str:
        return max(items, key=lambda item: self.words.tokens(f" {item}"))

    def topic(self, topics: Sequence[Topic]) -> Topic:
        return max(topics, key=lambda topic: self.words.most(f" {value}" for value in topic.values + topic.unseen))

    def number(self, low: int, high: int) -> int:
        return low

    def values(self, topic: Topic) -> tuple[str, ...]:
        return topic.values + topic.unseen

    def people(self, topic: Topic, count: int, but: Sequence[Pair] = ()) -> list[Pair]:
        return [(self.one(NAMES), self.one(self.values(topic)))] * count

    def value_for(self, topic: Topic, name: str, but: Sequence[str] = ()) -> str:
        return self.one(self.values(topic))
