"""Initialisation: layers hold values like those their own `reset_parameters` draws, and logits are near uniform.

Only for weights that have not been trained.
"""

import copy
import inspect
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.probing.search import Search
from assay.audit.subject.subject import Subject
from assay.evaluation.generators import seed_generators
from assay.layers.mixer import Layer
from assay.model.lm import LanguageModel
from assay.records import Finding

DRAWS = 4
SPREAD = 0.25
"""How far, relatively, a standard deviation may be from that of the layer's own draws."""
FAR_NATS = 1.0
"""How far below ln V the entropy of fresh logits may be."""


def initialisation(subject: Subject, _: Search) -> Finding:
    """Warn of layers that hold other values than their own `reset_parameters` draws: something has drawn over them.

    assay's layers are compared with their submodules; other classes outside torch.nn only in the parameters that they
    own directly, as a model may well draw the matrices of its linear layers itself. Constants must be equal, drawn
    values alike in mean and standard deviation.
    """
    checked, overwritten = 0, []
    for name, layer in _own_initialisers(subject.model):
        held = {key: parameter.detach().double() for key, parameter in _owned(layer)}
        draws = _drawn(layer)
        if draws is None:
            continue
        for key, values in held.items():
            checked += 1
            if not _alike(values, [draw[key] for draw in draws]):
                overwritten.append(f"{name}.{key}")
    if not checked:
        words = "no layer has a `reset_parameters` of its own to compare with"
        return Finding(check="initialisation", status="skip", explanation=words)
    if not overwritten:
        words = f"{checked} parameters hold what their layers draw"
        return Finding(check="initialisation", status="pass", measured=0.0, threshold=0.0, explanation=words)
    return Finding(
        check="initialisation",
        status="warn",
        measured=float(len(overwritten)),
        threshold=0.0,
        where=", ".join(overwritten[:6]),
        modules=tuple(dict.fromkeys(name.rpartition(".")[0] for name in overwritten)),
        explanation=f"{len(overwritten)} of {checked} parameters hold other values than their layer draws itself",
    )


def initial_entropy(subject: Subject, search: Search) -> Finding:
    """The mean entropy of the fresh model's predictions against ln V, in nats."""
    generator = torch.Generator().manual_seed(search.seed + 11)
    ids = torch.randint(subject.vocab_size, (2, search.content), generator=generator)
    log_p = subject.logits(ids)[..., : subject.vocab_size].double().log_softmax(-1)
    entropy = -(log_p.exp() * log_p).nan_to_num(0.0).sum(-1).mean().item()
    missing = math.log(subject.vocab_size) - entropy
    return Finding(
        check="initial_entropy",
        status="warn" if not missing <= FAR_NATS else "pass",
        measured=missing,
        threshold=FAR_NATS,
        explanation=f"fresh predictions have {entropy:.3g} nats of entropy, ln V is {math.log(subject.vocab_size):.3g}",
    )


def _own_initialisers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with a `reset_parameters` of their own, except those inside a module that is compared as a whole."""
    answered: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in answered or isinstance(module, LanguageModel) or type(module).__module__.startswith("torch."):
            continue
        if callable(getattr(module, "reset_parameters", None)) and list(module.parameters()) and name:
            if isinstance(module, Layer):
                answered |= set(module.modules())
            yield name, module


def _owned(layer: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(layer.named_parameters(recurse=isinstance(layer, Layer)))


@torch.no_grad()
def _drawn(layer: nn.Module) -> list[dict[str, Tensor]] | None:
    """The layer's parameters after its own initialisation, several times; None where it takes other arguments."""
    reset: Any = layer.reset_parameters
    takes = [p for p in inspect.signature(reset).parameters.values() if p.default is p.empty]
    draws = []
    for seed in range(DRAWS):
        layer = copy.deepcopy(layer)
        try:
            seed_generators(seed)
            arguments = [torch.Generator().manual_seed(seed)] if isinstance(layer, Layer) else []
            if len(takes) != len(arguments):
                return None
            reset = layer.reset_parameters
            reset(*arguments)
        except Exception:  # code from outside assay, which may need arguments or raise anything
            return None
        draws.append({name: parameter.detach().double() for name, parameter in _owned(layer)})
    return draws


def _alike(held: Tensor, draws: list[Tensor]) -> bool:
    """Whether `held` could be one of the draws: equal where all draws are equal, else alike in mean and spread."""
    drawn = torch.stack(draws)
    fixed = (drawn == drawn[0]).all(0)
    if not torch.allclose(held[fixed], drawn[0][fixed], rtol=1e-5, atol=1e-7):
        return False
    count = int((~fixed).sum())
    if count < 2:
        return True
    values, own = held[~fixed], drawn[:, ~fixed]
    deviation = own.std().item()
    tolerance = max(SPREAD, 6 / math.sqrt(2 * count))
    near = abs(values.mean().item() - own.mean().item()) <= 6 * deviation / math.sqrt(count)
    return near and abs(values.std().item() / deviation - 1) <= tolerance
