"""The four questions that are asked of every architecture, with an answer for each arm from stated rules.

docs/character.md has the rules.
"""

from collections.abc import Mapping
from typing import NamedTuple

from assay.analysis.character.answers import Answer, amplifies, beyond_training, breaks, forgets, matters
from assay.analysis.character.inside import Runs, inside, mean, numbers
from assay.analysis.character.parts import all_of, effects_of, which_matters
from assay.analysis.character.words import differences_of
from assay.analysis.wording import join_names

INSIDE = frozenset({"state", "contribution", "context"})
"""The measurements of which any makes it worth while to ask; the signals every study has."""


class Question(NamedTuple):
    """A question, what it means, in short what tells the arms apart, an answer for each, the figure that shows it."""

    title: str
    meaning: str
    short: str
    answers: Mapping[str, Answer]
    """Label -> answer."""
    measurement: str
    figure: str


def questions(runs: Runs) -> list[Question]:
    """All four, or none where nothing but the signals was measured, which every study has."""
    measured = {name for of in runs.values() for results in of.values() for name in results}
    asked = [
        Question(
            "Which one amplifies?",
            "What a block adds goes to the next on top of all before it. It amplifies where that sum grows more than "
            "1.5 times from the first block to the last, and damps where it shrinks to less than half.",
            _most(runs, _growths(runs), "growth", "grows most", "grows least", "{:.3g}x"),
            {label: amplifies(of) for label, of in runs.items()},
            "signals",
            "growth",
        ),
        Question(
            "Which one forgets, and how fast?",
            "A change is made to what the model carries from token to token, and the same text goes on. The half-life "
            "is after how many tokens half of the change is gone.",
            _most(runs, _half_lives(runs), "half_life", "forgets last", "forgets first", "{:.3g} tokens"),
            {label: forgets(of) for label, of in runs.items()},
            "state",
            "survival",
        ),
        Question(
            "Which part matters?",
            "A part's output is replaced by its mean over all tokens, and the loss rises. Mixers move information "
            "along the text, MLPs work on one token at a time.",
            _parts(runs),
            {label: matters(of) for label, of in runs.items()},
            "contribution",
            "contribution",
        ),
        Question(
            "Where does it break beyond its training length?",
            "The same tokens are predicted with more and more text before them, beyond the length that it was trained "
            "on. It breaks where their loss is higher than at that length.",
            _breaking(runs),
            {label: breaks(of) for label, of in runs.items()},
            "context",
            "context",
        ),
    ]
    return asked if measured & INSIDE else []


def _growths(runs: Runs) -> dict[str, list[float]]:
    return {
        label: list(numbers(inside(of, "signals"), "growth_without_embedding").values()) for label, of in runs.items()
    }


def _half_lives(runs: Runs) -> dict[str, list[float]]:
    return {label: list(numbers(inside(of, "state"), "half_life", "median").values()) for label, of in runs.items()}


def _most(runs: Runs, values: Mapping[str, list[float]], key: str, most: str, least: str, form: str) -> str:
    """Who has most and who least, and from whom both are told."""
    means = {label: mean(of, ratios=True) for label, of in values.items() if of}
    if len(means) < 2:
        return ""
    top, bottom = (form_(means, key=lambda label: means[label]) for form_ in (max, min))
    said = [
        f"{label} {word} ({form.format(means[label])}){_from(runs, label, key, label == top, list(means))}"
        for label, word in ((top, most), (bottom, least))
    ]
    return f"{'; '.join(said)}."


def _from(runs: Runs, label: str, key: str, more: bool, others: list[str]) -> str:
    """Of which of `others` it is not clearly apart, all comparisons of all traits together."""
    resolved = {d.other for d in differences_of(label, runs) if d.trait.key == key and d.more == more}
    open_ = [other for other in others if other != label and other not in resolved]
    if any(len(runs[name]) < 2 for name in (label, *open_)):
        return ", which one seed does not tell"
    return f", not clearly apart from {join_names(open_, 'or')}" if open_ else ", clearly apart from every other"


def _parts(runs: Runs) -> str:
    """Of whom mixers matter more, of whom MLPs, of whom it is unclear."""
    found: dict[str, list[str]] = {}
    for label, of in runs.items():
        effects = effects_of(inside(of, "contribution"))
        mixers, mlps = all_of(effects, "mixer"), all_of(effects, "mlp")
        if mixers is not None and mlps is not None:
            found.setdefault(which_matters(mixers, mlps), []).append(label)
    words = {"mixers": "mixers more than MLPs", "MLPs": "MLPs more than mixers", "unclear": "unclear"}
    return _listed({text: found.get(key, []) for key, text in words.items()})


def _breaking(runs: Runs) -> str:
    """Who gets worse, and whose loss does not clearly rise."""
    found: dict[str, list[str]] = {}
    for label, of in runs.items():
        values = [results["context"].values for results in of.values() if "context" in results]
        beyond = beyond_training(values) if values and not values[0]["lacks"] else []
        if beyond:
            found.setdefault("gets worse" if any(at.worse for at in beyond) else "no clear rise", []).append(label)
    return _listed({key: found.get(key, []) for key in ("gets worse", "no clear rise")})


def _listed(of: Mapping[str, list[str]]) -> str:
    """ "Gets worse: a and b; no clear rise: c."."""
    said = "; ".join(f"{text}: {join_names(labels)}" for text, labels in of.items() if labels)
    return f"{said[0].upper()}{said[1:]}." if said else ""
