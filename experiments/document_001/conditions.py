"""What document 001 did and said, row by row, and the settings of each of its conditions in two forms."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

Form = Literal["replica", "causal"]
FORMS: tuple[Form, ...] = ("replica", "causal")
TASK = Path(__file__).parent / "cut_needle.py"
TOP = 5
GUESS = 5 / 8
"""Of eight colours the right one is among the five likeliest tokens so often for who knows that a colour comes next."""
CHOICE = 1 / 8


class Condition(NamedTuple):
    """A row of the document: a model, what it was trained on, and what was said of it."""

    name: str
    pattern: str
    width: int
    """Heads of the document's model, each 64 wide."""
    local_scale: float | None
    local_drop: float | None
    needle: bool
    text: bool
    loss: Literal["answer", "all"]
    perplexity: float | None
    """As the document reports it: of the last tenth of the training, on what it was trained on."""
    normal: int | None
    zeroed: int | None
    """In a hundred: the right colour is among the five likeliest tokens, with the memory and without. None where the
    document shows the numbers of another model.
    """

    @property
    def attends(self) -> bool:
        return "S" in self.pattern


CONDITIONS = (
    Condition("GDN G", "G", 2, None, None, True, False, "all", None, 35, 10),
    Condition("GDN GG", "GG", 4, None, None, True, False, "all", None, 35, 5),
    Condition("GDN GGGG", "GGGG", 8, None, None, True, False, "all", None, 3, 3),
    Condition("GDN GG, text", "GG", 4, None, None, False, True, "answer", 24.1, None, None),
    Condition("static 0.3, text", "GGGGGS", 4, 0.3, 0.0, False, True, "answer", 3.9, 12, 10),
    Condition("static 0.1, text", "GGGGGS", 4, 0.1, 0.0, False, True, "answer", 2.7, 11, 18),
    Condition("drop 0.7, text", "GGGGGS", 4, 0.3, 0.7, False, True, "answer", 2.8, 6, 7),
    Condition("drop 0.7, needle", "GGGGGS", 4, 0.3, 0.7, True, False, "answer", None, 100, 36),
    Condition("drop 0.7, mixed", "GGGGGS", 4, 0.3, 0.7, True, True, "answer", 2.2, 100, 12),
)
BY_NAME = {condition.name: condition for condition in CONDITIONS}


class Scale(NamedTuple):
    """How large the models are and how long they are trained."""

    head_dim: int
    wide: bool
    """Whether models have half the document's heads; else one."""
    distractors: int
    context: int
    """Of a needle with all its distractors; the cut is at its 300/510, as in the document."""
    needle_rows: int
    needle_steps: int
    text_context: int
    text_rows: int
    text_steps: int
    vocabulary: int
    examples: int
    honest: int
    """Targets that are scored from their prefixes alone."""


SCALES = {
    "smoke": Scale(16, False, 4, 44, 2, 5, 32, 2, 3, 450, 16, 16),
    "pocket": Scale(32, True, 100, 528, 8, 250, 128, 8, 400, 1024, 160, 512),
}


def task_of(condition: Condition, form: Form, scale: Scale) -> str:
    """The needle of the form, as in the test: with all distractors."""
    if form == "causal":
        return f"needle:curriculum=true,distractors={scale.distractors},depth=0"
    return f"cut-needle:distractors={scale.distractors},cut={scale.context * 300 // 510},loss={condition.loss}"


def settings(condition: Condition, form: Form, scale: Scale, corpus: str, tokenizer: Path) -> dict[str, Any]:
    """The settings of one run, of the command `assay train` in a file."""
    context, rows, steps = (
        (scale.context, scale.needle_rows, scale.needle_steps)
        if condition.needle
        else (scale.text_context, scale.text_rows, scale.text_steps)
    )
    own = {
        key: value
        for key, value in (("local_scale", condition.local_scale), ("local_drop", condition.local_drop))
        if value is not None
    }
    data: dict[str, Any] = {"tokenizer": str(tokenizer)}
    if condition.needle:
        data["task"] = task_of(condition, form, scale)
    if condition.text:
        data |= {"corpus": corpus, "max_bytes": 4_000_000}
    if condition.needle and condition.text:
        data |= {"mix": 0.5, "task_weight": 0.5}
    heads = max(1, condition.width // 2) if scale.wide else 1
    return {
        "kind": "run",
        "arms": ["groundthink-v7" if form == "replica" else "groundthink"],
        "seeds": [0],
        "size": None,
        "plugins": [str(TASK)],
        "model": {
            "heads": "tied", "pattern": condition.pattern, "d_model": heads * scale.head_dim, "n_heads": heads,
            "head_dim": scale.head_dim, **own,
        },
        "data": data,
        "training": {
            "tokens": steps * rows * context,
            "batch_tokens": rows * context,
            "context": context,
            "validation_tokens": 64,
            "validation_interval": steps,
        },
        "evaluation": {"test_tokens": 4_096 if scale.wide else 64},
        "measurements": ["likelihood"],
        "execution": {"threads": 1},
    }  # fmt: skip
