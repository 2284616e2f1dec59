"""The four questions that are asked of every architecture, with an answer for each arm from stated rules.

docs/character.md has the rules.
"""

from collections.abc import Mapping
from typing import NamedTuple

from assay.analysis.character.answers import Answer, amplifies, breaks, first_worse, forgets, matters
from assay.analysis.character.inside import Runs, inside, mean, numbers
from assay.analysis.character.words import differences_of
from assay.analysis.wording import join_names


class Question(NamedTuple):
    """A question, in short what tells the arms apart, an answer for each by its label, and the figure that shows it."""

    title: str
    short: str
    answers: Mapping[str, Answer]
    measurement: str
    figure: str


def questions(runs: Runs) -> list[Question]:
    """All of them; none where nothing of them was measured."""
    found = [
        Question(
            "Which one amplifies?",
            _most(runs, _growths(runs), "growth", "grows most", "grows least", "{:.3g}x"),
            {label: amplifies(of) for label, of in runs.items()},
            "signals",
            "growth",
        ),
        Question(
            "Which one forgets, and how fast?",
            _most(runs, _half_lives(runs), "half_life", "forgets last", "forgets first", "{:.3g} tokens"),
            {label: forgets(of) for label, of in runs.items()},
            "state",
            "survival",
        ),
        Question(
            "Which part matters?",
            "",
            {label: matters(of) for label, of in runs.items()},
            "contribution",
            "contribution",
        ),
        Question(
            "Where does it break beyond its training length?",
            _breaking(runs),
            {label: breaks(of) for label, of in runs.items()},
            "context",
            "context",
        ),
    ]
    measured = {name for of in runs.values() for results in of.values() for name in results}
    return found if measured & {"state", "contribution", "context"} else []


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
    """Which of `others` it is not told from."""
    resolved = {d.other for d in differences_of(label, runs) if d.trait.key == key and d.more == more}
    open_ = [other for other in others if other != label and other not in resolved]
    if not open_:
        return ", told from every other"
    if len(open_) == len(others) - 1:
        return ", told from no other" + (" by so few seeds" if any(len(runs[name]) < 2 for name in others) else "")
    return f", not told from {join_names(open_)}"


def _breaking(runs: Runs) -> str:
    """Who gets worse on all seeds, who on none."""
    told, never = [], []
    for label, of in runs.items():
        found = [results["context"].values for results in of.values() if "context" in results]
        asked = [
            values for values in found if values["lengths"] and values["lengths"][-1]["tokens"] > values["trained"]
        ]
        if asked:
            places = [first_worse(values) for values in asked]
            if all(place is not None for place in places):
                told.append(label)
            elif not any(place is not None for place in places):
                never.append(label)
    said = [f"on every seed: {join_names(told)}"] if told else []
    said += [f"on none: {join_names(never)}"] if never else []
    return f"Gets worse {'; '.join(said)}." if said else ""
