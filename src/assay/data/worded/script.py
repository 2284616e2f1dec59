"""A conversation while it is written: lines, which of them say the answer, and what they mention."""

from collections.abc import Mapping, Sequence

from assay.data.worded.draw import Draw, Pair
from assay.data.worded.examples import Example
from assay.data.worded.templates import FILLER, REPLY, Topic

USER, BOT = "User", "Bot"


class Script:
    """Lines of one conversation, one after the other; `example` ends it with the question."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.pieces: list[str] = []
        self.facts: list[int] = []
        self.mentioned: list[str] = []
        self.pairs: list[Pair] = []

    def line(
        self, text: str, who: str = USER, fact: bool = False, mentions: Sequence[str] = (), reply: str = ""
    ) -> None:
        """Add a line of `who`; `mentions` are the answers that it mentions, `reply` what is said to it at once."""
        if fact:
            self.facts.append(len(self.pieces))
        self.mentioned += mentions
        self.pieces.append(f"\n{who}: {text}" + (f"\n{BOT}: {reply}" if reply else ""))

    def heading(self, text: str) -> None:
        """Add a line that nobody says."""
        self.pieces.append(f"\n# {text}")

    def told(self, topic: Topic, pair: Pair, reply: str = "") -> None:
        """Add what is said of somebody else."""
        name, value = pair
        text = self.draw.say(topic.others, name=name, value=value)
        self.line(text, mentions=[topic.answer(value)], reply=reply)
        self.pairs.append(pair)

    def filler(self, lines: int, topic: Topic | None = None, foils: Sequence[Pair] = (), turns: bool = False) -> None:
        """Add so many lines; at random ones of them the `foils` are said, in the others nothing of importance."""
        places = self.draw.some(len(foils), lines)
        for at in range(lines):
            reply = self.draw.say(REPLY) if turns else ""
            if topic is not None and at in places:
                self.told(topic, foils[places.index(at)], reply)
            else:
                self.line(self.draw.say(FILLER), reply=reply)

    def example(
        self,
        kind: str,
        question: str,
        answer: str,
        candidates: Sequence[str],
        who: str = USER,
        lead: str = "",
        levels: Mapping[str, str] | None = None,
    ) -> Example:
        """The conversation with its question; `lead` is what the answer begins with."""
        return Example(
            pieces=[*self.pieces, f"\n{who}: {question}\n{BOT}:{lead}"],
            answer=answer,
            candidates=candidates,
            facts=self.facts,
            possible=len(candidates),
            mentioned=[of for of in self.mentioned if of in candidates],
            kind=kind,
            levels=levels or {},
            pairs=self.pairs,
        )
