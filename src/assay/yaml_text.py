"""YAML as a person reads it: 1M is a number; `on`, 1_000 and what nests without end are refused."""

import re
from collections.abc import Hashable
from typing import Any, NoReturn

import yaml

from assay.parsing import LARGEST, LONGEST, PLAIN, parse_number, unreadable

DEEPEST = 32
"""Levels of brackets and indentation that a file of settings may have."""
MOST_NODES = 100_000
"""Values that a file of settings may have, those that an alias repeats counted each time."""


_NUMERIC = rf"{PLAIN}(?:[eE][-+]?[0-9]+)?[kKmMgGbB]?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_UNCLEAR = {
    r"(?:yes|no|on|off)": "YAML reads it as true or false",
    r"[-+]?0(?:[bB][01_]+|[oO][0-7_]+|[xX][0-9a-fA-F_]+)": "a number is written in decimal digits",
    r"[-+]?0[0-9]+": "YAML reads a leading 0 as octal",
    r"[-+]?[0-9.][0-9._]*_[0-9._]*(?:[eE][-+]?[0-9]+)?[kKmMgGbB]?": "a number has no _",
    r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?": "YAML reads it as a number to the base 60",
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9].*)?": "YAML reads it as a date",
}
"""What YAML 1.1, or 1.2, reads otherwise than a person does -> why it is refused."""


class YamlError(ValueError):
    """What is wrong with a text that should be YAML, and in which line where that is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem if line is None else f"line {line}: {problem}")
        self.problem = problem


def load_yaml(text: str) -> Any:
    """The one value that `text` holds, None for an empty one; a YamlError where it is no YAML or not clear."""
    return _load(text)[0]


def parse_value(text: str) -> Any:
    """A single value as YAML reads it, as behind --set KEY=; a ValueError says why it is none."""
    try:
        value, end = _load(text)
    except YamlError as error:
        raise ValueError(error.problem) from None
    if text[end:].strip():
        raise ValueError(f"what begins with {text[end:].strip()[0]} is left out by YAML; quotes would keep it")
    return value


def _load(text: str) -> tuple[Any, int]:
    """The value, and where in `text` it ends."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, 0  # a comment at most
        _refuse_endless(node, 0, [0])
        return loader.construct_document(node), node.end_mark.index
    except RecursionError:
        raise YamlError(f"nested too deeply; {DEEPEST} levels would do") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(str(error.problem), line) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # \U00110000 is a ValueError of Python's
        raise YamlError(f"not YAML: {' '.join(str(error).split())}") from None


def _refuse_endless(node: yaml.Node, depth: int, seen: list[int]) -> None:
    """Raise a ConstructorError where `node` is too deep, holds itself, or repeats itself too often; [0] counts."""
    seen[0] += 1
    if depth > DEEPEST:
        _refuse(node, f"nested too deeply; {DEEPEST} levels would do")
    if seen[0] > MOST_NODES:
        _refuse(node, f"more than {MOST_NODES:,} values")
    if isinstance(node, yaml.CollectionNode):
        for item in node.value:
            for inner in item if isinstance(item, tuple) else (item,):
                _refuse_endless(inner, depth + 1, seen)


def _refuse(node: yaml.Node, problem: str) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Reads what a person reads; a key that stands twice or is not a name is an error, and so is any other tag."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == f"{_TAG}merge":
                continue
            if key.tag != f"{_TAG}str":
                _refuse(key, "a key must be a name; in quotes it is one")
            if key.value in seen:
                _refuse(key, f"{key.value!r} stands twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """A text that can be written again."""
        text = str(self.construct_scalar(node))
        if (why := unreadable(text)) is not None:
            _refuse(node, f"{text!r}: {why}")
        return text

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Of any size and sign; one with a point or an exponent is a float, as in YAML."""
        text = str(self.construct_scalar(node))
        if text.lower().lstrip("+-") in (".inf", ".nan"):
            return float(text.replace(".", "", 1))
        if (number := parse_number(text)) is None:
            _refuse(
                node, f"{text[:LONGEST]}: no number that can be read, up to {LARGEST:.1e}; 1000, 1M or 1e-3 would do"
            )
        return float(number) if set(text) & set(".eE") and text[-1] in "0123456789." else number

    def refuse_unclear(self, node: yaml.ScalarNode) -> NoReturn:
        """Say why, and what would do."""
        text = str(self.construct_scalar(node))
        why = next((why for pattern, why in _UNCLEAR.items() if re.fullmatch(pattern, text, re.IGNORECASE)), "unclear")
        truth = "true, false" if why == _UNCLEAR["(?:yes|no|on|off)"] else "a plain number"
        _refuse(node, f"{text}: {why}; {truth} or '{text}' in quotes would do")


class Dumper(yaml.SafeDumper):
    """Quotes the texts that are read as something else than text, or not at all."""


_Loader.yaml_implicit_resolvers, _Loader.yaml_constructors = {}, {}  # none of those that YAML 1.1 has
for _kind in ("null", "bool", "seq", "map", "merge"):
    if f"{_TAG}{_kind}" in yaml.SafeLoader.yaml_constructors:
        _Loader.add_constructor(f"{_TAG}{_kind}", yaml.SafeLoader.yaml_constructors[f"{_TAG}{_kind}"])
_Loader.add_constructor(f"{_TAG}str", _Loader.construct_text)
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_number)
_Loader.add_constructor(f"{_TAG}float", _Loader.construct_number)
_Loader.add_constructor("!unclear", _Loader.refuse_unclear)
_Loader.add_constructor(None, yaml.SafeLoader.yaml_constructors[None])

_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"^<<$"), ["<"])
for _class in (_Loader, Dumper):
    _unclear = re.compile(rf"^(?:{'|'.join(_UNCLEAR)})$", re.IGNORECASE)
    _class.add_implicit_resolver("!unclear", _unclear, list("yYnNoO-+.0123456789"))
    _class.add_implicit_resolver(f"{_TAG}float", re.compile(rf"^(?:{_NUMERIC})$"), list("-+.0123456789"))
