"""Parity with another library: equal logits on redrawn weights, and every tensor of weights changes them."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.redraw import redrawn
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel

TOLERANCE = 1e-4
"""The largest difference allowed, relative to the largest logit, in float32."""


def build(name: str, dimensions: dict[str, object], weights: dict[str, Tensor]) -> LanguageModel:
    """Our model with these weights, every one of them given."""
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse(dimensions), seed=0).eval()
    model.load_state_dict(weights, strict=True)
    return model


def parse(name: str, dimensions: Mapping[str, object]) -> Any:
    """The configuration, of the architecture's own type."""
    return ARCHITECTURES.get(name).config.parse(dict(dimensions))


def ids(vocab_size: int, tokens: int) -> Tensor:
    return torch.randint(0, vocab_size, (2, tokens), generator=torch.Generator().manual_seed(tokens))


@torch.no_grad()
def difference(ours: nn.Module, theirs: nn.Module, tokens: Tensor) -> float:
    """The largest difference of two logits, in units of the largest logit."""
    return _difference(ours(tokens), theirs(tokens).logits)


@torch.no_grad()
def least_sensitive(ours: LanguageModel, theirs: nn.Module, tokens: Tensor) -> tuple[float, str]:
    """The smallest `difference` after redrawing one tensor of ours, over all tensors, and which it was."""
    fresh = copy.deepcopy(ours)
    fresh.reset_parameters(torch.Generator().manual_seed(98))
    other = dict(redrawn(fresh, torch.Generator().manual_seed(99)).named_parameters())
    expected, moved = theirs(tokens).logits, []
    for name, parameter in ours.named_parameters():
        before = parameter.clone()
        parameter.copy_(other[name])
        moved.append((_difference(ours(tokens), expected), name))
        parameter.copy_(before)
    return min(moved)


def _difference(logits: Tensor, expected: Tensor) -> float:
    return ((logits - expected).abs().max() / expected.abs().max()).item()
