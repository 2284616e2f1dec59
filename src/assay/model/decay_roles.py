"""Which parameters weight decay applies to, as the modules that own them declare."""

from collections.abc import Iterator

from torch import nn

from assay.errors import RequestError
from assay.layers.mixer import Layer
from assay.plugins.blame import place_of

STOCK_ROLES: dict[type[nn.Module], dict[str, bool]] = {
    nn.Linear: {"weight": True, "bias": False},
    nn.Embedding: {"weight": True},
    nn.Conv1d: {"weight": True, "bias": False},
    nn.LayerNorm: {"weight": False, "bias": False},
    nn.RMSNorm: {"weight": False},
    nn.GroupNorm: {"weight": False, "bias": False},
}
"""Whether weight decay applies to the parameters of torch's own modules, which cannot declare it themselves."""


def decay_roles(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Yield (name, parameter, whether weight decay applies), every parameter once.

    A parameter for which no module declares a role is a RequestError that says where, and names both.
    """
    seen: set[int] = set()
    for path, module in model.named_modules():
        roles = module.decay_roles if isinstance(module, Layer) else STOCK_ROLES.get(type(module), {})
        for name, parameter in module.named_parameters(path, recurse=False):
            role = roles.get(name.removeprefix(f"{path}."))
            if role is None:
                raise _without_role(model, path, name)
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter, role


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
