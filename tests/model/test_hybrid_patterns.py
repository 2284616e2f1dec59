"""A hybrid's pattern in every way that it can be given: letters, names, lists, brackets, what YAML makes of them."""

from typing import Any

import pytest

import assay
from assay.config import parse_assignment
from assay.errors import RequestError
from assay.model.architecture import ARCHITECTURES
from assay.model.presets.hybrid import HybridConfig

NAMES = ["mamba2"] * 5 + ["transformer++"]


def names(pattern: Any) -> list[str]:
    config = ARCHITECTURES.get("hybrid").config.parse({"pattern": pattern})
    assert isinstance(config, HybridConfig)
    assert config.n_layers == len(config.names())
    return config.names()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[mamba2 x 5, attention]", NAMES),
        (" [ mamba2 x 5 ,attention ] ", NAMES),
        ("mamba2 x 5, attention", NAMES),
        (["mamba2 x 5", "attention"], NAMES),
        ("MMMMMA", NAMES),
        ("[A]", ["transformer++"]),
        ("[7 x 2, A]", ["rwkv7", "rwkv7", "transformer++"]),
        (777, ["rwkv7"] * 3),
        ([7, 7, "A"], ["rwkv7", "rwkv7", "transformer++"]),
    ],
)
def test_every_spelling_is_read(pattern: Any, expected: list[str]) -> None:
    assert names(pattern) == expected


@pytest.mark.parametrize("text", ["777", '"777"', "'777'", "[7, 7, 7]", "[7 x 3]", "rwkv7 x 3"])
def test_sevens_on_the_command_line_are_letters(text: str) -> None:
    key, value = parse_assignment(f"model.pattern={text}")
    assert key == "model.pattern"
    assert names(value) == ["rwkv7"] * 3


@pytest.mark.parametrize("pattern", [7e7, True, None, {"A": 1}])
def test_what_is_no_pattern_is_told_to_be_quoted(pattern: Any) -> None:
    with pytest.raises(RequestError, match=r"^model.pattern: .* given, letters \(GGGA\) .* want quotes"):
        names(pattern)


@pytest.mark.parametrize("pattern", ["", " ", "[]", "[ ]", []])
def test_an_empty_pattern_is_refused(pattern: Any) -> None:
    with pytest.raises(RequestError, match=r"^model.pattern: empty"):
        names(pattern)


def test_brackets_work_from_python() -> None:
    model = assay.build("hybrid", pattern="[mamba2 x 1, attention]", d_model=32, vocab_size=61)
    assert [type(block.mixer).__name__ for block in model.sequence_blocks()] == ["Mamba2", "CausalAttention"]
