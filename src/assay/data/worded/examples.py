"""One sequence of a task in words: pieces of text, the question at their end, its answer and what else it could be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from assay.data.batches import Ints

Piece = str | Ints
"""A text, or ids of a stretch of the corpus."""
DEPTHS = ("early", "middle", "late")
"""In which third of what stands before the question a fact lies."""


def third(place: int, places: int) -> str:
    """The third of `places` (0 to places - 1) in which `place` lies."""
    return DEPTHS[min(2, 3 * place // max(1, places))]


@dataclass(frozen=True)
class Example:
    """What is read, what is asked at its end, and what is known of the answer."""

    pieces: Sequence[Piece]
    """The last one asks, and ends where the answer begins; those before it are the context."""
    answer: str
    """As it stands in the text, with the space before it."""
    candidates: Sequence[str]
    """All different, the answer among them."""
    facts: Sequence[int]
    """Which pieces say the answer; without them it cannot be known."""
    possible: float
    """How many answers are equally likely for one who knows the task and not the sequence."""
    mentioned: Sequence[str]
    """The candidates that the pieces mention, in their order; one may stand there several times."""
    kind: str
    """What is tested, by which results are told apart."""
    levels: Mapping[str, str] = field(default_factory=dict)
    """Name of an axis -> where on it the example lies, as depth -> early."""
    pairs: Sequence[tuple[str, str]] = ()
    """(name, value) of everything that is said of somebody."""

    @property
    def last(self) -> str | None:
        """The candidate that is mentioned last."""
        return self.mentioned[-1] if self.mentioned else None

    @property
    def context(self) -> Sequence[Piece]:
        """The pieces before the one that asks."""
        return self.pieces[:-1]

    def without_facts(self) -> list[Piece]:
        """The pieces that do not say the answer."""
        return [piece for number, piece in enumerate(self.pieces) if number not in self.facts]

    def saying(self, answer: str, facts: Mapping[int, str]) -> "Example":
        """The same with `facts` (number of a piece -> its text) that say `answer`, a candidate in place of the former
        one where it was none.
        """
        pieces = [facts.get(number, piece) for number, piece in enumerate(self.pieces)]
        old, new = self.answer.strip(), answer.strip()
        candidates = self.candidates
        if answer not in candidates:
            candidates = _replaced(candidates, self.answer, answer)
        return replace(
            self,
            pieces=pieces,
            answer=answer,
            candidates=self.candidates
            if answer in self.candidates
            else _replaced(self.candidates, self.answer, answer),
            mentioned=_replaced(self.mentioned, self.answer, answer),
            pairs=[(name, new if value == old else value) for name, value in self.pairs],
        )

    def with_other_answer(self, answer: str) -> "Example":
        """The same where the facts say `answer` in the words of the former one; only for facts that say it so."""
        return self.saying(answer, {at: str(self.pieces[at]).replace(self.answer, answer) for at in self.facts})

    def says_its_answer(self) -> bool:
        """Whether the answer stands in what says it, word for word."""
        return any(self.answer in str(self.pieces[at]) for at in self.facts)


def _replaced(texts: Sequence[str], old: str, new: str) -> list[str]:
    return [new if text == old else text for text in texts]
