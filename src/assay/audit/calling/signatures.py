"""The parameters of a function from outside assay, which need not have a signature."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function; empty for one without a signature, such as scripted code."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
