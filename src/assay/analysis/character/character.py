"""All that is told of the inside of arms that are compared: four questions, sentences, and what to fuse."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from assay.analysis.character import claims, fusion
from assay.analysis.character.claims import Claim
from assay.analysis.character.fusion import FusionPair, fusion_pairs
from assay.analysis.character.inside import Kind, Runs, by_arm, kinds
from assay.analysis.character.questions import Question, questions
from assay.analysis.character.words import in_words
from assay.records import MeasuredRun


class Character(NamedTuple):
    """Of arms of one size."""

    questions: Sequence[Question]
    words: Mapping[str, Sequence[str]]
    """Label -> its sentences."""
    pairs: Sequence[FusionPair]
    claims: Sequence[Claim]
    heading: str = ""
    """Which size, where there are several."""
    size: str = ""
    """The same as it stands in the names of figures."""

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "size": self.heading,
            "questions": [
                {
                    "question": of.title,
                    "short": of.short,
                    "answers": {label: answer._asdict() for label, answer in of.answers.items()},
                }
                for of in self.questions
            ],
            "words": {label: list(lines) for label, lines in self.words.items()},
            "fusion": {
                "rules": fusion.RULES,
                "advice": fusion.ADVICE,
                "short": fusion.in_short(self.pairs),
                "pairs": [
                    {"a": pair.a, "b": pair.b, "advice": pair.advice,
                     "rules": {name: of._asdict() for name, of in pair.rulings.items()}}
                    for pair in self.pairs
                ],
                "claims": [claim._asdict() for claim in self.claims],
                "why": claims.WHY,
            },
        }  # fmt: skip


def character_of(runs: Sequence[MeasuredRun], heading: str = "", size: str = "") -> Character | None:
    """Of the finished ones of `runs`; None where nothing was asked of what goes on inside them."""
    return character(by_arm(runs), kinds(runs), heading, size)


def character(runs: Runs, of_kind: Mapping[str, Kind], heading: str = "", size: str = "") -> Character | None:
    """Of the results of `runs`; arms that `of_kind` does not know stand in no pair to fuse."""
    asked = questions(runs)
    if not asked:
        return None
    known = {label: of for label, of in runs.items() if label in of_kind}
    return Character(asked, in_words(runs), fusion_pairs(known, of_kind), claims.claims(known, of_kind), heading, size)
