"""Configurations of older versions: what they called things, and what they took for granted where they said nothing."""

from typing import Any, NamedTuple

VERSION = 6
"""Of today's configurations: a changed default is a new version, a new key with a default is not."""
UNASKED = ("likelihood", "recall", "signals", "output_health")
"""What versions 1 and 2 measured of every run, and listed nowhere."""


class Defaults(NamedTuple):
    """The defaults of an older version, where today's are others."""

    tokenizer: str
    size: int
    arms: tuple[str, ...] = ("gpt1", "rwkv6", "mamba2")
    tokens: int = 65_536


BEFORE_4 = Defaults("bpe:4096", 1_000_000)
OF_4 = Defaults("bpe:1024", 500_000)
OF_5 = Defaults("bytes", 250_000, ("transformer++", "rwkv6", "mamba2"), 327_680)


def of_today(values: dict[str, Any]) -> dict[str, Any]:
    """The `values` of a configuration as version 6 writes them; what has no version, or today's, stays as it is.

    A version that is none is left for validation to refuse.
    """
    version = values.get("version", VERSION)
    if version not in (1, 2, 3, 4, 5):
        return values
    values = dict(values)
    if version == 1 and "architectures" in values:
        values["arms"] = values.pop("architectures")
    if version in (1, 2) and isinstance(asked := values.get("measurements"), list):
        values["measurements"] = list(dict.fromkeys([*UNASKED, *asked]))
    if version in (1, 2, 3):
        values = {"match": "total", **values}
        model = values.get("model") or {}
        if isinstance(model, dict) and "heads" not in model:
            values["model"] = {"tied_embeddings": True, **model}
    return {**_with_defaults(values, {4: OF_4, 5: OF_5}.get(version, BEFORE_4)), "version": VERSION}


def says_size(values: dict[str, Any]) -> bool:
    """Whether the configuration sets sizes, or dimensions of all arms in place of one."""
    return "size" in values or bool(values.get("sizes") or {"d_model", "n_layers"} & set(values.get("model") or {}))


def _with_defaults(values: dict[str, Any], old: Defaults) -> dict[str, Any]:
    values = {"arms": list(old.arms), **values}
    if not says_size(values):
        values["size"] = old.size
    training = values.get("training") or {}
    if isinstance(training, dict):
        values["training"] = {"tokens": old.tokens, **training}
    data = values.get("data") or {}
    if isinstance(data, dict):
        if data.get("task") is None:
            values["data"] = {"tokenizer": old.tokenizer, **data}
        elif data.get("tokenizer") == old.tokenizer:  # written beside a task too, where it means nothing
            values["data"] = {key: value for key, value in data.items() if key != "tokenizer"}
    return values
