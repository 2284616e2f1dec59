"""The conversations that are written, each kind of memory by a function: recall, correction, instruction, persona, ...

In most of them others say values of the same sort before or after the fact, so that whoever repeats the value that was
mentioned last is often wrong.
"""

import itertools
from collections.abc import Callable, Mapping
from functools import partial

from assay.data.worded.draw import Draw
from assay.data.worded.examples import DEPTHS, Example
from assay.data.worded.script import BOT, USER, Script
from assay.data.worded.templates import (
    AGE,
    ASK_AGE,
    ASK_ORDERED,
    ASK_PREFERRED,
    ASK_THREAD,
    ASK_TWO,
    CITY,
    COLOUR,
    COMPARED,
    CONTRADICTION,
    CORRECTION,
    DENIAL,
    FAVOURITES,
    FILLER,
    FOOD,
    HEADING,
    HELLO,
    HELP,
    JOB,
    NAMES,
    ORDERED,
    PAIR_CLASSES,
    PET,
    PLACES,
    PREFER,
    SPLIT_OF_CLASS,
    SPLITS_IN_ORDER,
    TEACHER,
    THREAD,
    TONE,
    TRIP,
    TWO,
    WORD,
    Templates,
    Topic,
)
from assay.data.worded.words import Words

FOILS = 2
"""Others of whom a value of the same sort is said."""
YOUNGEST, OLDEST = 20, 69
LONGEST_ANSWER = 8
"""Tokens; no value has more letters."""


Scene = Callable[[Draw, str], Example]
"""(draw, kind) -> a conversation."""


def recall(
    topics: tuple[Topic, ...], lines: int, draw: Draw, kind: str, *, times: int = 1, turns: bool = False
) -> Example:
    """Somebody says a value, `times` in a row; so many lines later it is asked for."""
    topic, script = draw.topic(topics), Script(draw)
    (name, value), *others = draw.people(topic, 1 + FOILS)
    later = draw.number(0, min(FOILS, lines))
    script.line(draw.say(HELLO, name=name))
    for other in others[later:]:
        script.told(topic, other)
    script.pairs.append((name, value))
    for _ in range(times):
        script.line(draw.say(topic.own, value=value), fact=True, mentions=[topic.answer(value)])
    script.filler(lines, topic, others[:later], turns)
    levels = {"turns": f"{lines:02}"} if turns else {}
    return script.example(kind, draw.say(topic.ask), topic.answer(value), answers(draw, topic), levels=levels)


def answers(draw: Draw, topic: Topic) -> list[str]:
    """What could be answered."""
    return [topic.answer(value) for value in draw.values(topic)]


def two_facts(draw: Draw, kind: str) -> Example:
    """Two values in one line, of which one is asked for."""
    script, swapped = Script(draw), draw.number(0, 1)
    topic, second = ((COLOUR, FOOD), (PET, CITY))[draw.number(0, 1)]
    (name, value), other = draw.people(topic, 2)
    value2 = draw.value_for(second, name)
    script.line(draw.say(HELLO, name=name))
    script.pairs += [(name, value), (name, value2)]
    asked, answer, said = (second, value2, value2) if swapped else (topic, value, value)
    script.line(
        draw.say(TWO, topic=topic.name, value=value, topic2=second.name, value2=value2),
        fact=True,
        mentions=[asked.answer(said)],
    )
    foils = [] if swapped else [other]
    script.filler(3, topic, foils)
    return script.example(kind, draw.say(ASK_TWO, topic=asked.name), asked.answer(answer), answers(draw, asked))


def at_depth(depth: str, draw: Draw, kind: str) -> Example:
    """A value somewhere in a conversation that fills its room; `depth` is the third in which it is said."""
    topic, script = draw.topic(FAVOURITES), Script(draw)
    (name, value), *others = draw.people(topic, 1 + FOILS)
    lines = max(3 * (1 + FOILS), (draw.room - frame_of_depth(draw.words)) // _most(draw.words, FILLER))
    per = lines // 3
    place = DEPTHS.index(depth) * per + draw.number(0, per - 1)
    later = draw.number(0, FOILS)
    script.line(draw.say(HELLO, name=name))
    before, after = place, lines - 1 - place
    later = min(later, after) if before >= FOILS - min(later, after) else FOILS - before
    script.filler(before, topic, others[later:])
    script.pairs.append((name, value))
    script.line(draw.say(topic.own, value=value), fact=True, mentions=[topic.answer(value)])
    script.filler(after, topic, others[:later])
    levels = {"depth": depth}
    return script.example(kind, draw.say(topic.ask), topic.answer(value), answers(draw, topic), levels=levels)


def frame_of_depth(words: Words) -> int:
    """Tokens at most of a conversation that fills its room, beside its lines of filler."""
    every = [of for topic in FAVOURITES for of in (topic.own, topic.others, topic.ask)]
    said = max(_most(words, of) for of in every)
    return _most(words, HELLO) + (2 + FOILS) * said + words.tokens(f"\n{BOT}:") + LONGEST_ANSWER


def _most(words: Words, templates: Templates) -> int:
    """The tokens of the longest line, with fillings that are longer than all there are."""
    texts = (
        text.format(name="Margaret", value="greenish") for split in SPLITS_IN_ORDER for text in templates.of(split)
    )
    return max(words.tokens(f"\n{USER}: {text}") for text in texts)


def preference(draw: Draw, kind: str) -> Example:
    """Somebody prefers one value to another, which is mentioned too."""
    topic, script = draw.topic(FAVOURITES), Script(draw)
    ((name, value),) = draw.people(topic, 1)
    second = draw.value_for(topic, name, but=[value])
    (other,) = draw.people(topic, 1, but=[(name, value), (name, second)])
    script.line(draw.say(HELLO, name=name))
    text = draw.say(PREFER, value=value, second=second)
    order = sorted((value, second), key=lambda of: text.rfind(of))
    script.pairs += [(name, value), (name, second)]
    script.line(text, fact=True, mentions=[topic.answer(of) for of in order])
    script.filler(4, topic, [] if draw.number(0, 1) else [other])
    return script.example(kind, draw.say(ASK_PREFERRED), topic.answer(value), answers(draw, topic))


def _another(draw: Draw, topic: Topic, but: list[str]) -> str:
    """A value that is said of nobody."""
    return draw.one([value for value in draw.values(topic) if value not in but])


def reference(draw: Draw, kind: str) -> Example:
    """Three values in a row, said by nobody in particular, of which one is asked for by its place."""
    topic, script = draw.topic(FAVOURITES), Script(draw)
    at = draw.number(0, 2)
    row: list[str] = []
    for _ in PLACES:
        row.append(_another(draw, topic, row))
    value = row[at]
    text = draw.say(ORDERED, **dict(zip(PLACES, row, strict=True)))
    script.line(text, fact=True, mentions=[topic.answer(of) for of in row])
    script.filler(3)
    return script.example(kind, draw.say(ASK_ORDERED, place=PLACES[at]), topic.answer(value), answers(draw, topic))


def correction(lines: int, draw: Draw, kind: str) -> Example:
    """A value, so many lines, then another one in its place; the other is asked for."""
    topic, script = draw.topic(FAVOURITES), Script(draw)
    ((name, value),) = draw.people(topic, 1)
    old = draw.value_for(topic, name, but=[value])
    others = draw.people(topic, FOILS, but=[(name, value), (name, old)])
    later = draw.number(0, FOILS)
    script.line(draw.say(HELLO, name=name))
    for other in others[later:]:
        script.told(topic, other)
    script.line(draw.say(topic.own, value=old), fact=True, mentions=[topic.answer(old)])
    script.filler(lines)
    script.pairs += [(name, old), (name, value)]
    script.line(draw.say(CORRECTION, value=value), fact=True, mentions=[topic.answer(value)])
    script.filler(FOILS, topic, others[:later])
    return script.example(kind, draw.say(topic.ask), topic.answer(value), answers(draw, topic))


def both(draw: Draw, kind: str) -> Example:
    """A word to begin with and a tone: the answer has both."""
    script = Script(draw)
    (name, word), *others = draw.people(WORD, 2)
    tone = draw.value_for(TONE, name)
    other_tone = _another(draw, TONE, [tone])
    script.line(draw.say(HELLO, name=name))
    script.pairs += [(name, word), (name, tone)]
    script.line(draw.say(WORD.own, value=word), fact=True)
    script.line(draw.say(TONE.own, value=tone), fact=True)
    script.filler(4, WORD, others)
    words = [word, others[0][1], *(of for of in draw.values(WORD) if of not in (word, others[0][1]))][:5]
    pairs = [*itertools.product(words, (tone, other_tone))]
    said = [f" {first}, {TONE.answers[second].lower()}" for first, second in pairs]
    return script.example(kind, draw.say(WORD.ask), said[0], said)


def persona(lines: int, draw: Draw, kind: str, *, contradicted: bool = False) -> Example:
    """Who the model is to be, so many lines before it is asked; somebody may say it wrongly in between."""
    script = Script(draw)
    (name, value), *others = draw.people(JOB, 1 + FOILS)
    script.pairs.append((name, value))
    script.line(draw.say(JOB.own, name=name, value=value), "System", fact=True, mentions=[JOB.answer(value)])
    script.filler(lines, JOB, others[draw.number(0, FOILS) :])
    if contradicted:
        wrong = draw.value_for(JOB, name, but=[value])
        script.pairs.append((name, wrong))
        script.line(draw.say(CONTRADICTION, value=wrong), mentions=[JOB.answer(wrong)], reply=draw.say(DENIAL))
    return script.example(kind, draw.say(JOB.ask), JOB.answer(value), answers(draw, JOB))


def conversations_apart(draw: Draw, kind: str) -> Example:
    """Conversation A, then B, then A again, or B still; what is asked was said in the one that goes on."""
    topic, script = draw.topic(FAVOURITES), Script(draw)
    people = draw.people(topic, 2)
    back = draw.number(0, 1) == 0
    heading = draw.one(HEADING.of(draw.split))
    for number, (name, value) in enumerate(people):
        script.heading(heading.format(letter="AB"[number]))
        script.line(draw.say(HELLO, name=name))
        asked = number == (0 if back else 1)
        script.line(draw.say(topic.own, value=value), fact=asked, mentions=[topic.answer(value)])
        script.filler(1)
    script.pairs += people
    value = people[0 if back else 1][1]
    script.heading(heading.format(letter="A" if back else "B"))
    return script.example(kind, draw.say(topic.ask), topic.answer(value), answers(draw, topic))


def two_users(draw: Draw, kind: str) -> Example:
    """Two users take turns in one conversation, and one of them asks."""
    topic, script = draw.topic(FAVOURITES), Script(draw)
    people = draw.people(topic, 2)
    asks = draw.number(0, 1)
    for number, (name, value) in enumerate(people):
        script.line(draw.say(topic.own, value=value), name, number == asks, [topic.answer(value)])
    for name, _ in people:
        script.line(draw.say(FILLER), name)
    script.pairs += people
    name, value = people[asks]
    return script.example(kind, draw.say(topic.ask), topic.answer(value), answers(draw, topic), who=name)


def composition(draw: Draw, kind: str) -> Example:
    """Two people's ages; who is older, or younger, is asked."""
    script = Script(draw)
    first = draw.one(NAMES)
    second = draw.one([name for name in NAMES if name != first] or NAMES)
    ages = {first: _age(draw, first, None)}
    ages[second] = _age(draw, second, ages[first])
    which = ("older", "younger")[draw.number(0, 1)]
    names = [first, second]
    for name in names:
        script.line(draw.say(AGE, name=name, value=str(ages[name])), fact=True, mentions=[f" {name}"])
        script.pairs.append((name, str(ages[name])))
    script.filler(2)
    answer = (max if which == "older" else min)(names, key=lambda name: ages[name])
    return script.example(kind, draw.say(ASK_AGE, which=which), f" {answer}", [f" {name}" for name in names])


def _age(draw: Draw, name: str, but: int | None) -> int:
    """An age that the split may say of `name`."""
    allowed = [
        str(age)
        for age in range(YOUNGEST, OLDEST + 1)
        if age != but and SPLIT_OF_CLASS[(NAMES.index(name) + age) % PAIR_CLASSES] == draw.split
    ]
    return int(draw.one(allowed))


def old_subject(draw: Draw, kind: str) -> Example:
    """A persona of one subject, then a request about another one, which is asked for."""
    script = Script(draw)
    (name, value), *others = draw.people(HELP, 1 + FOILS)
    later = draw.number(0, FOILS)
    old = _another(draw, HELP, [value, *(of for _, of in others)])
    script.line(draw.say(TEACHER, value=old), "System", mentions=[HELP.answer(old)])
    script.line(draw.say(HELLO, name=name))
    script.filler(2, HELP, others[later:])
    script.pairs.append((name, value))
    script.line(draw.say(HELP.own, value=value), fact=True, mentions=[HELP.answer(value)])
    script.filler(2, HELP, others[:later])
    return script.example(kind, draw.say(HELP.ask), HELP.answer(value), answers(draw, HELP))


def threading(draw: Draw, kind: str) -> Example:
    """A subject, and another one that it is compared to; the first is asked for."""
    script = Script(draw)
    ((name, value),) = draw.people(PET, 1)
    second = draw.value_for(PET, name, but=[value])
    script.line(draw.say(HELLO, name=name))
    script.pairs += [(name, value), (name, second)]
    script.line(draw.say(THREAD, value=value), fact=True, mentions=[PET.answer(value)])
    script.filler(3)
    script.line(draw.say(COMPARED, value=second), mentions=[PET.answer(second)])
    script.filler(1)
    return script.example(kind, draw.say(ASK_THREAD), PET.answer(value), answers(draw, PET))


SCENES: Mapping[str, Scene] = {
    "C1a": partial(recall, FAVOURITES, 1),
    "C1b": partial(recall, FAVOURITES, 5),
    "C1c": partial(recall, FAVOURITES, 10),
    "C1d": two_facts,
    "C1e": partial(recall, FAVOURITES, 3),
    "C2a": partial(at_depth, "early"),
    "C2b": partial(at_depth, "middle"),
    "C2c": partial(at_depth, "late"),
    "C3a": preference,
    "C3b": reference,
    "C3c": partial(correction, 2),
    "C4a": partial(recall, (WORD,), 4),
    "C4b": partial(recall, (TONE,), 4),
    "C4c": both,
    "C5a": partial(persona, 2),
    "C5b": partial(persona, 8),
    "C5c": partial(persona, 2, contradicted=True),
    "C6a": conversations_apart,
    "C6b": two_users,
    "T1a": partial(recall, FAVOURITES, 2, times=3),
    "T1b": partial(correction, 0),
    "T2a": partial(recall, (TRIP,), 10),
    "T2b": composition,
    "T3a": old_subject,
    "T3b": threading,
    "R05": partial(recall, FAVOURITES, 5, turns=True),
    "R10": partial(recall, FAVOURITES, 10, turns=True),
    "R20": partial(recall, FAVOURITES, 20, turns=True),
    "R50": partial(recall, FAVOURITES, 50, turns=True),
}
"""Name of a kind -> what writes it."""
WITHOUT_UNSEEN = ("C4b", "C4c", "T2b")
"""Kinds whose values cannot be new: what shows them must have been learned."""
FILLING = ("C2a", "C2b", "C2c")
"""Kinds that fill their room."""
