"""Names the attribute of a model in which a call left something for the next."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay.records import Finding

DEPTH, MOST = 3, 3
_NOT_MEMORY = ("_parameters", "_modules", "training")


def remembered(finding: Finding, model: nn.Module, call: Callable[[], object]) -> Finding:
    """The finding; its `where` names the attributes that `call` changes, alone if no module was found to blame."""
    before = _held(model)
    call()
    after = _held(model)
    names = [name for name in after if name not in before or not _same(before[name], after[name])][:MOST]
    if not names:
        return finding
    words = f"a cache on the model, {', '.join(f'`{name}`' for name in names)}, holds what earlier calls left"
    if finding.where is None:
        owners = tuple(dict.fromkeys(name.rpartition(".")[0] for name in names))
        return finding.model_copy(update={"where": words, "modules": owners})
    return finding.model_copy(update={"where": f"{finding.where}; {words}"})


def _held(model: nn.Module) -> dict[str, Any]:
    """{name: a copy of what it holds} for each attribute of each module, parameters and submodules left out."""
    return {
        f"{path}.{name}".lstrip("."): _copied(value)
        for path, module in model.named_modules()
        for name, value in {**vars(module), **module._buffers}.items()
        if name not in (*_NOT_MEMORY, "_buffers") and "_hooks" not in name
    }


def _copied(value: Any, depth: int = DEPTH) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping) and depth:
        return {repr(key): _copied(member, depth - 1) for key, member in value.items()}
    if isinstance(value, list | tuple | set) and depth:
        return [_copied(member, depth - 1) for member in value]
    return value if isinstance(value, int | float | str | bytes) else id(value)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)
