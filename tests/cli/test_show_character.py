"""What the terminal tells of the character of arms: of a study, and of single models side by side."""

import io
import json

from rich.cells import cell_len
from rich.console import Console

from analysis.character.made_up import arm
from assay.analysis.character.character import character
from assay.analysis.character.inside import Kind
from assay.cli.show_character import show_character
from assay.study.measure.runs import Looked
from assay.study.measure.subjects import characters_of

KINDS = {"[b]one": Kind("rwkv6", "own"), "other": Kind("mamba2", "own")}


def shown(runs: dict[str, object], width: int = 80) -> str:
    found = character(runs, KINDS)  # type: ignore[arg-type]
    assert found is not None
    text = io.StringIO()
    show_character(found, Console(file=text, width=width))
    return text.getvalue()


def test_questions_sentences_pairs_and_claims_fit_the_window() -> None:
    text = shown({"[b]one": arm(3.0, 50.0), "other": arm(1.0, None)})
    assert max(map(cell_len, text.splitlines())) <= 80
    parts = ("Which one amplifies?", "Which one forgets", "Which part matters?", "Where does it break", "In words",
             "Which two to fuse", "What the research documents claim")  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "[b]one and other: fuse." in text, "names are no markup"
    assert "no half-life: it has no state that fades." in " ".join(text.split())


def test_single_models_are_told_of_together_without_a_pair_to_fuse() -> None:
    looked = [Looked(name, [], [], {name: relabelled(name)}) for name in ("a", "b")]
    (found,) = characters_of(looked)
    assert list(found.words) == ["a", "b"]
    assert "which one seed does not tell" in found.questions[0].short
    assert found.pairs == found.claims == []
    assert json.loads(json.dumps(found.values()))["questions"][3]["answers"]["b"]["applies"] is True
    assert characters_of([Looked("study", [], [], {"a, seed 0": relabelled("a")}, is_study=True)]) == []


def relabelled(name: str) -> dict[str, object]:
    (results,) = arm(seeds=1).values()
    return {  # type: ignore[return-value]
        key: result.model_copy(update={"measured": result.measured.model_copy(update={"label": name})})
        for key, result in results.items()
    }
