"""Names what a call changes outside of its results: attributes of modules and classes, and globals."""

from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

from assay.audit.blame.tracer import leaves_of
from assay.audit.subject.memory import contents_of_cell
from assay.audit.subject.statics import Cached, attributes_of, globals_of, is_own_class
from assay.records import Finding

DEPTH, MEMBERS = 4, 64
"""How deep containers are looked into, and how many of their members are."""
MOST_NAMED = 3


class Contents:
    """What the modules of a model, their classes and their functions' globals hold, summed up by name."""

    def __init__(self, model: nn.Module) -> None:
        self.held = {name: _summary(value) for name, value in _named(model)}


def changed_attributes(model: nn.Module, before: Contents) -> list[str]:
    """The names, at most a few, of what holds something else now than `before`; "blocks.1.mixer.cache" for example."""
    now = Contents(model).held
    changed = [name for name, value in now.items() if before.held.get(name) != value]
    return changed[:MOST_NAMED]


def remembered(finding: Finding, model: nn.Module, before: Contents, otherwise: str) -> Finding:
    """The finding; its `where` names what holds something else now than `before`, after the module to blame.

    Where none was found to blame, the `where` is `otherwise`, and the blame is the owners' of what is named.
    """
    names = changed_attributes(model, before)
    if not names:
        return finding
    told = f"({', '.join(names)} {'remembers' if len(names) == 1 else 'remember'})"
    if finding.where is not None:
        return finding.model_copy(update={"where": f"{finding.where} {told}"})
    paths = {path for path, _ in model.named_modules()}
    owners = dict.fromkeys(name.rpartition(".")[0] for name in names)
    modules = tuple(owner for owner in owners if owner in paths) or ("",)
    return finding.model_copy(update={"where": f"{otherwise} {told}", "modules": modules})


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every tensor that the model's modules, classes and functions' globals hold."""
    for name, value in _named(model):
        for path, tensor in leaves_of(value).items():
            yield name + path, tensor


def _named(model: nn.Module) -> Iterator[tuple[str, Any]]:
    functions: dict[str, FunctionType | Cached[Any]] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name, value in {**vars(module), **module._buffers}.items():
            if name not in ("_parameters", "_modules", "_buffers", "training") and "_hooks" not in name:
                yield prefix + name, value
        for kind in filter(is_own_class, type(module).__mro__):
            for name, value in attributes_of(kind).items():
                inner = value.__func__ if isinstance(value, staticmethod | classmethod) else value
                if isinstance(inner, FunctionType | Cached):
                    functions[f"{kind.__name__}.{name}"] = inner
                else:
                    yield f"{kind.__name__}.{name}", value
    for name, function in list(functions.items()):
        if isinstance(function, Cached):
            yield name, function
        inner = function.__wrapped__ if isinstance(function, Cached) else function
        named = globals_of(inner) if isinstance(inner, FunctionType) else {}
        for known, value in named.items():
            if not (isinstance(value, ModuleType) or callable(value)):
                yield f"{inner.__module__}.{known}", value


def _summary(value: Any, depth: int = DEPTH) -> Any:
    """Something that compares unequal where `value` holds something else."""
    if isinstance(value, Tensor):
        if value.is_sparse or not value.numel():
            return tuple(value.shape)
        return tuple(value.shape), value.data_ptr(), repr(value.detach().double().sum().item())
    if isinstance(value, Cached):
        return value.cache_info().currsize
    if isinstance(value, str | bytes | int | float | bool | type | nn.Module) or value is None or depth == 0:
        return value if isinstance(value, str | bytes | int | float | bool) else id(value)
    if isinstance(value, MethodType):
        return _summary(value.__self__, depth - 1)
    if isinstance(value, FunctionType):
        return [_summary(contents_of_cell(cell), depth - 1) for cell in value.__closure__ or ()]
    if isinstance(value, Mapping):
        members = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset | deque):
        members = list(value)
    else:
        members = list(getattr(value, "__dict__", {}).values())
    return id(value), len(members), [_summary(member, depth - 1) for member in members[:MEMBERS]]
