"""Strict configurations: unknown keys fail, dotted overrides, a hash, and errors in one line."""

import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pydantic
import yaml

from assay.errors import RequestError
from assay.parsing import parse_number
from assay.yaml_text import Dumper, YamlError, load_yaml, parse_value


class Config(pydantic.BaseModel):
    """A frozen configuration; a key it does not know is an error, and so is a number that is not finite."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    section: ClassVar[str] = ""
    """The section of config.yaml that holds these keys, as messages name it; "" for a whole file."""
    flags: ClassVar[Mapping[str, str]] = {}
    """{dotted key: the command-line flag that sets it}; the entry for "" names where the values come from."""

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _numbers_as_written(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """A text where a number is asked is read as the command line reads it; true and false are no numbers."""
        field = cls.model_fields[info.field_name or ""]
        return _number(field.annotation, value)

    @classmethod
    def parse(cls, values: Mapping[str, Any], options: Mapping[str, str] | None = None) -> Self:
        """Validate `values`; a failure is a RequestError. `options` are added to the class's own `flags`."""
        try:
            return cls.model_validate(dict(values))
        except pydantic.ValidationError as error:
            raise RequestError(_explain(cls, error, {**cls.flags, **(options or {})})) from None

    def departures(self) -> dict[str, Any]:
        """The values that differ from the defaults of their fields, section by section."""
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Config):
                if inside := value.departures():
                    found[name] = inside
            elif field.is_required() or value != field.get_default(call_default_factory=True):
                found[name] = self.model_dump(mode="json", include={name})[name]
        return found

    def digest(self) -> str:
        """SHA-256 of what differs from the defaults, independent of the order of keys.

        A key that is added with a default therefore changes no digest.
        """
        return digest_of(self.departures())

    def to_yaml(self) -> str:
        """The resolved values as YAML, keys in the order of declaration."""
        return yaml.dump(self.model_dump(mode="json"), Dumper=Dumper, sort_keys=False)


def _number(annotation: Any, value: Any) -> Any:
    """`value` with the numbers that `annotation` asks for read from text; a ValueError where a text is no number."""
    kinds = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if isinstance(value, list):
        inside = [typing.get_args(kind)[0] for kind in kinds if typing.get_origin(kind) is list]
        return [_number(inside[0], item) for item in value] if inside else value
    asked = [kind for kind in (int, float) if kind in kinds]
    if not asked or not isinstance(value, str | bool) or type(value) in kinds:
        return value
    number = parse_number(value) if isinstance(value, str) else None
    if number is None:
        raise ValueError("should be a valid integer" if asked == [int] else "should be a valid number")
    return number


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def digest_of(values: Any) -> str:
    """SHA-256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_yaml(path: Path, given: str = "") -> dict[str, Any]:
    """Read a mapping from a YAML file; a missing file or anything else than a mapping is a RequestError.

    `given` is what its message begins with, such as the option that named the file.
    """
    name = f"{given} {path}".strip()
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{name}: not UTF-8 at byte {error.start}; YAML in UTF-8 is needed") from None
    except YamlError as error:
        raise RequestError(f"{name}: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RequestError(f"{name}: holds a {type(values).__name__}; a mapping of keys to values is needed")
    return values


def merge(values: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` updated by `more`, recursively in nested mappings; `more` takes precedence."""
    merged = dict(values)
    for key, value in more.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"a.b": 1} for {"a": {"b": 1}}; an empty mapping has no leaves."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return leaves


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return {"a": {"b": value}} for the dotted path "a.b"."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return typing.cast(dict[str, Any], value)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split "a.b=3" into its path and its value, read by `parse_value`."""
    key, sign, raw = text.partition("=")
    if not sign or not key.strip():
        raise RequestError(f"--set {text}: KEY=VALUE is needed, as in --set training.learning_rate=0.001")
    if not raw.strip():
        raise RequestError(f"--set {text}: the value is missing; null would do where none is meant")
    try:
        return key.strip(), parse_value(raw)
    except ValueError as error:
        raise RequestError(f"--set {text}: the value is not YAML: {error}") from None


def parse_settings(text: str, rest: str, example: str = "head_dim=32") -> Iterator[tuple[str, Any]]:
    """(key, value) of every key=value in `rest`, the settings of `text`; commas in brackets do not separate them."""
    for part in _parts(rest) if rest else []:
        key, sign, raw = part.partition("=")
        if not sign or not key.strip() or not raw.strip():
            raise RequestError(f"{text}: {part.strip() or ','}: key=value is needed, as in {example}")
        try:
            yield key.strip(), parse_value(raw)
        except ValueError as error:
            raise RequestError(f"{text}: {part.strip()}: the value is not YAML: {error}") from None


def _parts(text: str) -> list[str]:
    """`text` at its commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def resolve_key(key: str, paths: Iterable[str]) -> str:
    """Return the one path that `key` names: itself, or the path of which it is the unique last part."""
    paths = list(paths)
    if key in paths:
        return key
    matches = [path for path in paths if path.split(".")[-1] == key]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RequestError(f"--set {key}: could be {' or '.join(sorted(matches))}; give the whole path")
    raise RequestError(f"--set {key}: unknown key; {nearest_path(key, paths)}")


def nearest_path(key: str, paths: list[str]) -> str:
    """A suggestion for `key`, by its whole path or by the last part of one; else the names that exist beside it."""
    last_parts = list(dict.fromkeys(path.split(".")[-1] for path in paths))
    near = difflib.get_close_matches(key, [*paths, *last_parts] if "." in key else last_parts, n=1)
    if near == [key]:  # a key of a section, given outside it
        near = [path for path in paths if path.split(".")[-1] == key]
    if near:
        return f"did you mean {near[0]!r}?"
    prefix = key.rpartition(".")[0] + "." if "." in key else ""
    beside = {path.removeprefix(prefix).split(".")[0] for path in paths if path.startswith(prefix)}
    return f"there is {', '.join(sorted(beside if len(beside) > 1 else last_parts))}"


def leaf_paths(config: type[pydantic.BaseModel], prefix: str = "") -> list[str]:
    """The dotted paths of all leaves of a configuration class."""
    paths: list[str] = []
    for name, field in config.model_fields.items():
        inner = _config_class(field.annotation)
        paths += leaf_paths(inner, f"{prefix}{name}.") if inner else [prefix + name]
    return paths


def _config_class(annotation: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    if _is_union(annotation):
        for choice in typing.get_args(annotation):
            if found := _config_class(choice):
                return found
    return None


def _explain(config: type[Config], error: pydantic.ValidationError, options: Mapping[str, str]) -> str:
    """One line for the first error: the key (and its option), what was given, what would do."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        source = f"{options['']}: " if "" in options else ""
        key = str(first["loc"][-1])
        if "." in key:
            within = ".".join(str(part) for part in (*first["loc"][:-1], *key.split(".")))
            nest = within.replace(".", ": {") + ": ..." + "}" * within.count(".")
            return f"{source}unknown key {path!r}: --set takes it dotted; in a file it is nested, as in {nest}"
        named = [of for of, flag in options.items() if flag == f"--{key.replace('_', '-')}"]
        near = f"did you mean {named[0]!r}?" if named else nearest_path(path, leaf_paths(config))
        return f"{source}unknown key {path!r}: {near}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ").partition(", unable to")[0]
    if isinstance(first.get("ctx", {}).get("error"), RequestError):
        return message  # a whole sentence already
    section = isinstance(first["input"], Mapping) and path not in leaf_paths(config)
    if first["type"] == "value_error" and (not path or section):
        return message  # a check over several keys names them itself
    if first["type"] == "too_short":
        message = f"should have at least {first['ctx']['min_length']}"
    whole = f"{config.section}.{path}".strip(".")
    option = options.get(path)
    key = whole if option is None else option if option == f"--{whole}" else f"{option} ({whole})"
    return f"{key}: missing" if first["type"] == "missing" else f"{key}: {first['input']!r} given, {message}"
