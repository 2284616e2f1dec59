"""What the optimizer does with each parameter, as its module declares: weight decay, learning rate, if a matrix."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from torch import nn

from assay.errors import RequestError
from assay.layers.mixer import Layer
from assay.plugins.blame import place_of
from assay.registry import suggestion

STOCK_ROLES: dict[type[nn.Module], dict[str, bool]] = {
    nn.Linear: {"weight": True, "bias": False},
    nn.Embedding: {"weight": True},
    nn.Conv1d: {"weight": True, "bias": False},
    nn.LayerNorm: {"weight": False, "bias": False},
    nn.RMSNorm: {"weight": False},
    nn.GroupNorm: {"weight": False, "bias": False},
}
"""Whether weight decay applies to the parameters of torch's own modules, which cannot declare it themselves."""


MATRICES: dict[type[nn.Module], frozenset[str]] = {nn.Linear: frozenset({"weight"})}
"""Which parameters of torch's own modules are matrices."""


class Role(NamedTuple):
    """What the optimizer does with a parameter."""

    decay: bool
    """Whether weight decay applies to it."""
    rate_factor: float = 1.0
    """Its learning rate over that of the step."""
    matrix: bool = False
    """Whether it multiplies features as a whole matrix: the weight of a torch.nn.Linear, or in `Layer.matrices`."""


def optimizer_roles(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Role]]:
    """Yield (name, parameter, role), every parameter once.

    A parameter for which no module declares a weight-decay role is a RequestError that says where, and names both; so
    is a learning-rate factor that is no positive number, or of a parameter without such a role, and a matrix without
    one or of other than two axes.
    """
    seen: set[int] = set()
    for path, module in model.named_modules():
        roles = module.decay_roles if isinstance(module, Layer) else STOCK_ROLES.get(type(module), {})
        factors = module.rate_factors if isinstance(module, Layer) else {}
        matrices = module.matrices if isinstance(module, Layer) else MATRICES.get(type(module), frozenset())
        _refuse_factors(module, factors, roles)
        _refuse_matrices(module, matrices, roles)
        for name, parameter in module.named_parameters(path, recurse=False):
            own = name.removeprefix(f"{path}.")
            if own not in roles:
                raise _without_role(model, path, name)
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter, Role(roles[own], factors.get(own, 1.0), own in matrices)


def _refuse_factors(module: nn.Module, factors: Mapping[str, Any], roles: Mapping[str, bool]) -> None:
    for name, factor in factors.items():
        where = f"{place_of(type(module))}: {type(module).__name__}.rate_factors: {name}"
        if name not in roles:
            raise RequestError(f"{where}: stands in no decay_roles; {suggestion(name, list(roles))}")
        if type(factor) not in (int, float) or not 0 < factor < math.inf:
            raise RequestError(f"{where}: {factor!r} given, a positive number would do, as 2.0")


def _refuse_matrices(module: nn.Module, matrices: Collection[str], roles: Mapping[str, bool]) -> None:
    for name in matrices:
        where = f"{place_of(type(module))}: {type(module).__name__}.matrices: {name}"
        if name not in roles:
            raise RequestError(f"{where}: stands in no decay_roles; {suggestion(name, list(roles))}")
        parameter = getattr(module, name)
        if parameter is not None and parameter.ndim != 2:
            raise RequestError(f"{where}: has {parameter.ndim} axes, and a matrix has two")


def _without_role(model: nn.Module, path: str, name: str) -> RequestError:
    """The error; it points to the innermost module around the parameter whose class comes from a plug-in."""
    paths = [path]
    while paths[-1]:
        paths.append(paths[-1].rpartition(".")[0])
    around = [type(model.get_submodule(part)) for part in paths]
    own = name.rpartition(".")[2]
    advice = f'decay_roles = {{"{own}": False}}, a class attribute, would do'
    if not issubclass(around[0], Layer):
        advice = f"a Layer ({Layer.__module__}) that owns it can"
    cls = around[0].__name__
    return RequestError(f"{place_of(*around)}: {cls} declares no weight-decay role for its parameter {name}; {advice}")
