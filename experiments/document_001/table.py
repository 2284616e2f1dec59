"""Our numbers beside the document's, and one sentence on each of its rows."""

from typing import Any

from conditions import BY_NAME, CHOICE, GUESS, Condition
from rich.console import Console
from rich.table import Table

Outcomes = dict[str, dict[str, dict[str, Any]]]
"""Condition -> form -> its numbers."""


def show(outcomes: Outcomes) -> None:
    """Print the table and the sentences."""
    table = Table(box=None, title="Document 001, as it was run and as it should be", title_justify="left")
    for head in ("condition", "said", "replica: five likeliest", "causal: of 8 colours", "perplexity said", "replica",
                 "honest", "causal"):  # fmt: skip
        table.add_column(head, justify="left" if head == "condition" else "right")
    for name, of in outcomes.items():
        table.add_row(*_row(BY_NAME[name], of))
    console = Console(highlight=False, width=150)
    console.print(table)
    console.print(
        f"Each is with the memory / with it set to zero. Floors: {GUESS:.1%} of the five likeliest for who knows that "
        f"a colour comes next; {CHOICE:.1%} of the eight colours.\n",
        markup=False,
    )
    for name, of in outcomes.items():
        console.print(f"{name}: {sentence(BY_NAME[name], of)}", markup=False)


def _row(condition: Condition, of: dict[str, dict[str, Any]]) -> list[str]:
    replica, causal = of.get("replica"), of.get("causal")
    cells = [condition.name, "" if condition.normal is None else f"{condition.normal}% / {condition.zeroed}%"]
    cells.append("" if replica is None else f"{replica['normal_top'][0]:.0%} / {replica['zeroed_top'][0]:.0%}")
    cells.append("" if causal is None else f"{causal['normal_chosen'][0]:.0%} / {causal['zeroed_chosen'][0]:.0%}")
    if condition.perplexity is None:
        return [*cells, "", "", "", ""]
    cells.append(f"{condition.perplexity}")
    cells += ["", ""] if replica is None else [f"{replica['text'][key]:.1f}" for key in ("as_reported", "honest")]
    return [*cells, "" if causal is None else f"{causal['text']['honest']:.1f}"]


def sentence(condition: Condition, of: dict[str, dict[str, Any]]) -> str:
    """What the document said, what its number's floor is, and what we find."""
    if condition.normal is None or condition.zeroed is None:
        parts = ["the document shows the points of another model, which was trained on needles"]
    else:
        parts = [
            f"the document said that the memory gives {condition.normal - condition.zeroed:+d} points, "
            f"{condition.normal}% of the five likeliest tokens, where a guess among the colours gives {GUESS:.1%}"
        ]
        if condition.normal < 100 * GUESS:
            parts[0] += " (below that a model does not know that a colour comes next)"
    if condition.perplexity is not None:
        parts[0] += f", and a perplexity of {condition.perplexity}"
    if (replica := of.get("replica")) is not None:
        points = _interval(replica["points"]["top"], "{:+.0f}")
        parts.append(f"run as it was, with its cut, we find {replica['normal_top'][0]:.0%} and {points} points")
        if "text" in replica:
            text = replica["text"]
            parts[-1] += (
                f", a perplexity of {text['as_reported']:.1f} as it counts and {text['honest']:.1f} from what stands "
                f"before each token ({_nats(text)})"
            )
    if (causal := of.get("causal")) is not None:
        share = _interval(causal["normal_chosen"], "{:.0%}")
        points = _interval(causal["points"]["chosen"], "{:+.0f}")
        floor = max(CHOICE, causal["factless_chosen"])
        parts.append(
            f"made causal and asked in full, {share} of the eight colours are right (floor {floor:.0%}) and the memory "
            f"gives {points} points"
        )
        if "text" in causal:
            parts[-1] += f", at a perplexity of {causal['text']['honest']:.1f} ({_nats(causal['text'])})"
    return "; ".join(parts) + "."


def _interval(of: list[float], form: str) -> str:
    mean, low, high = (form.format(value) for value in of)
    return f"{mean} [{low}, {high}]"


def _nats(text: dict[str, Any]) -> str:
    """How much later tokens gave."""
    if text["gained_low"] is None:
        return f"later tokens gave {text['gained_nats']:z.2f} nats"
    return f"later tokens gave {text['gained_nats']:z.2f} [{text['gained_low']:z.2f}, {text['gained_high']:z.2f}] nats"
