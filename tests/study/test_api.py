"""The Python interface takes what the command line takes, and refuses anything else in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import assay
from assay.errors import RequestError

ARMS = ["gpt1", "rwkv6"]


def measured(**settings: Any) -> object:
    return assay.measure("gpt1", only="signals", at="init", **settings)


def compared(**settings: Any) -> object:
    return assay.compare(ARMS, "nowhere", **{"seeds": [0], **settings})


def gated(**settings: Any) -> object:
    return assay.gate(ARMS[:1], "gpt1", "nowhere", **{"sizes": ["10k", "20k"], **settings})


@pytest.mark.parametrize(
    ("call", "settings", "says"),
    [
        (measured, {"size": "one"}, "size: 'one' given, should be a valid integer"),
        (measured, {"size": [1]}, "size: [1] given, should be a valid integer"),
        (measured, {"seeds": 3}, "seeds: 3 given, should be a valid list"),
        (measured, {"tokens": "1M"}, "unknown key 'tokens': did you mean 'training.tokens'?"),
        (measured, {"training": {"tokens": "x"}}, "training.tokens: 'x' given, should be a valid integer"),
        (measured, {"training": "1M"}, 'training: \'1M\' given; keys and values are needed, as in {"tokens": "1M"}'),
        (measured, {"data": "stdlib"}, "data: 'stdlib' given; keys and values are needed"),
        (compared, {"size": "1x"}, "size: '1x' given, should be a valid integer"),
        (compared, {"seeds": "0,1"}, "seeds: '0,1' given, should be a valid list"),
        (compared, {"seeds": [0.5]}, "seeds.0: 0.5 given, should be a valid integer"),
        (compared, {"training": {"tokens": "x"}}, "training.tokens: 'x' given, should be a valid integer"),
        (compared, {"workers": "some"}, "--workers some: auto, or a whole number above zero, is needed"),
        (compared, {"workers": 0}, "--workers 0: auto, or a whole number above zero, is needed"),
        (gated, {"sizes": ["10k", "x"]}, "sizes: ['10k', 'x'] given, should be a valid integer"),
        (gated, {"seeds": "x"}, "seeds: 'x' given, should be a valid integer"),
        (gated, {"rates": "1e-3"}, "--lr (rates): '1e-3' given, should be a valid list"),
        (gated, {"tokens_per_parameter": "x"}, "tokens_per_parameter: 'x' given, should be a valid number"),
        (gated, {"training": 3}, "training: 3 given; keys and values are needed"),
        (gated, {"budget": 30}, "budget: 30 given, should be a valid string"),
    ],
)
def test_what_does_not_fit_is_one_line(call: Callable[..., object], settings: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        call(**settings)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_size_as_on_the_command_line(corpus: Path) -> None:
    """Text and number are one and the same question, so that the second answer is the first one's, kept."""
    settings: dict[str, Any] = {
        "data": {"corpus": f"text:{corpus}", "tokenizer": "bytes"},
        "training": {"tokens": "4k", "batch_tokens": 256, "context": "32", "validation_tokens": 256},
    }
    (text,) = measured(size="20k", **settings)  # type: ignore[misc]
    (number,) = measured(size=20_000, **settings)  # type: ignore[misc]
    assert (text.added, number.added) == (["signals"], [])
    assert text.results == number.results
