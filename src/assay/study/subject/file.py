"""FILE.py as a SUBJECT: the architectures that it registers, or the torch module that it holds."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from assay.errors import RequestError
from assay.model.architecture import ARCHITECTURES, Architecture
from assay.plugins.blame import blamed, described
from assay.plugins.loading import load_plugin
from assay.registry import suggestion
from assay.study.arm import parse_arm
from assay.study.subject.fresh import Fresh, fresh_model
from assay.study.subject.subject import NamedModel

FACTORIES = ("model", "build", "build_model", "make_model", "get_model")
USUAL = ("model", "Model", "LanguageModel", "LM")
"""Names that are preferred to others in a file that holds several candidates of a kind."""


def models_in_file(path: Path, name: str, fresh: Fresh) -> list[NamedModel]:
    """The architectures that the file registers; else the model called `name`, or the only one in it."""
    brought = registered_by(path)
    module = load_plugin(path, "")
    if brought and not name:
        return [fresh_model(parse_arm(architecture.name), fresh) for architecture in brought]
    if not name:
        name = _only_candidate(path, module)
    if not hasattr(module, name):
        raise RequestError(f"{path}:{name}: the file has no {name}; {suggestion(name, _candidates(module))}")
    model = _made(path, name, getattr(module, name))
    loss, log_prob = (getattr(module, scorer, None) for scorer in ("loss", "log_prob"))
    return [NamedModel(f"{path}:{name}", model, fresh=True, loss=loss, log_prob=log_prob)]


def registered_by(path: Path) -> list[Architecture]:
    """The architectures that the file registers, also if it was loaded before."""
    known = set(ARCHITECTURES.names())
    module = load_plugin(path, "")
    return [item for item in ARCHITECTURES if item.name not in known or _is_of(item, module)]


def _is_of(architecture: Architecture, module: ModuleType) -> bool:
    return getattr(architecture.mixer, "__module__", None) == module.__name__


def _candidates(module: ModuleType) -> list[str]:
    """Names in the module that could be a model: an instance, a factory with a usual name, or a class."""
    return list(dict.fromkeys(name for names in _by_kind(module) for name in names))


def _by_kind(module: ModuleType) -> Iterator[list[str]]:
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    yield [name for name, value in own.items() if isinstance(value, nn.Module)]
    yield [name for name in FACTORIES if callable(own.get(name)) and not isinstance(own[name], type)]
    classes = [(name, value) for name, value in own.items() if isinstance(value, type) and issubclass(value, nn.Module)]
    yield [name for name, value in classes if value.__module__ == module.__name__]


def _only_candidate(path: Path, module: ModuleType) -> str:
    for found in _by_kind(module):
        names = [name for name in USUAL if name in found][:1] or found
        if len(names) == 1:
            return names[0]
        if names:
            raise RequestError(f"{path}: holds {', '.join(names)}; give one of them, as in {path}:{names[0]}")
    raise RequestError(
        f"{path}: registers no architecture and holds no model; `register(Architecture(...))`, or a torch.nn.Module or "
        "a function without arguments that makes one, called `model`, would do"
    )


def _needed(made_by: Callable[..., Any]) -> list[str]:
    """The arguments without which a class or a function cannot be called."""
    try:
        parameters = inspect.signature(made_by).parameters.values()
    except (TypeError, ValueError):  # written in C
        return []
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [of.name for of in parameters if of.default is inspect.Parameter.empty and of.kind not in open_ended]


def _made(path: Path, name: str, value: Any) -> nn.Module:
    """The value if it is a torch module; else what it makes as a class or factory, called without arguments."""
    if isinstance(value, nn.Module):
        return value
    if not callable(value):
        raise RequestError(
            f"{path}:{name}: is a {type(value).__name__}; a torch.nn.Module, or what makes one, would do"
        )
    if needed := _needed(value):
        raise RequestError(
            f"{path}:{name}: takes {', '.join(needed)}, which only you know; a ready object in the file, "
            f"`model = {name}(...)`, would do, and {path}:model names it"
        )
    try:
        made = value()
    except (Exception, SystemExit) as error:
        where = blamed(error) or f"{path}:{name}: {described(error)}"
        raise RequestError(where) from error
    if not isinstance(made, nn.Module):
        raise RequestError(f"{path}:{name}: makes a {type(made).__name__}; a torch.nn.Module would do")
    return made
