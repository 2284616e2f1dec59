"""Checks of weights: each has a weight-decay role, all are drawn from the seed, and storing them loses nothing."""

import torch
from safetensors.torch import load, save
from torch import Tensor

from assay.audit.contract.models import Reasons, ids_for, smallest, smallest_redrawn
from assay.errors import RequestError
from assay.layers.mixer import Layer, SequenceLayer, Shared
from assay.layers.randomness import seeded
from assay.model.architecture import Architecture, assemble
from assay.model.lm import LanguageModel
from assay.model.optimizer_roles import optimizer_roles
from assay.records import Finding

NAMED = 5
"""How many parameters a sentence names."""


def roles(architecture: Architecture) -> Finding:
    """1. Every parameter has a weight-decay role, declared by the module that owns it."""
    model, reasons = smallest(architecture), Reasons()
    try:
        covered = [name for name, _, _ in optimizer_roles(model)]
    except RequestError as error:
        reasons.note(1, str(error))
        covered = []
    return reasons.finding("decay_roles", f"{len(covered)} parameters, each with a weight-decay role")


def complete_initialisation(architecture: Architecture) -> Finding:
    """`reset_parameters` 1. fills every parameter, 2. with the same values for a seed, 3. with others for another."""
    model, reasons = assemble(architecture, architecture.config.parse(architecture.tiny)), Reasons()
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    model.reset_parameters(torch.Generator().manual_seed(0))
    left = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if left:
        reasons.note(1, f"reset_parameters leaves {', '.join(left[:NAMED])} as they were")
    once, again, other = (smallest(architecture, seed).state_dict() for seed in (5, 5, 6))
    moved = [name for name in once if not torch.equal(once[name], again[name])]
    if moved and not left:
        names = ", ".join(moved[:NAMED])
        reasons.note(2, f"the same seed gives other values of {names}: something is drawn from a global generator")
    if all(torch.equal(once[name], other[name]) for name in once):
        reasons.note(3, "another seed gives the same values: nothing is drawn from the generator that is given")
    return reasons.finding("seeded_initialisation", "reset_parameters draws every parameter, and the same for a seed")


@torch.no_grad()
def zero_outputs(architecture: Architecture) -> Finding:
    """1. With `--init blinkdl`, which zeroes all `residual_outputs`, a layer adds nothing to the residual stream.

    Skipped where a layer names no `residual_outputs`: `blinkdl` then leaves its weights as they were drawn.
    """
    model, reasons, unnamed = smallest(architecture, options={"initialisation": "blinkdl"}).eval(), Reasons(), []
    ids = ids_for(model)
    x, shared = model.embedding(ids), {"ids": ids}
    for index, block in enumerate(model.sequence_blocks()):
        pairs: list[tuple[str, Layer | None, SequenceLayer | None]] = [
            ("mixer", block.mixer_norm, block.mixer),
            ("channel_mixer", block.channel_mixer_norm, block.channel_mixer),
        ]
        for role, norm, layer in pairs:
            if norm is None or layer is None:
                continue
            y = _added(layer, norm, x, shared)
            x = x + y
            name = f"blocks.{index}.{role} ({type(layer).__name__})"
            if not layer.residual_outputs():
                unnamed.append(name)
            elif y.abs().max() > 0:
                reasons.note(1, f"{name} adds to the residual stream though its `residual_outputs` are zero")
    if unnamed and not reasons.found:
        words = f"no residual_outputs are named by {', '.join(unnamed)}; --init blinkdl leaves them as they are drawn"
        return Finding(check="zero_outputs", status="skip", explanation=words)
    return reasons.finding("zero_outputs", "with --init blinkdl no layer adds to the residual stream")


def _added(layer: SequenceLayer, norm: Layer, x: Tensor, shared: Shared) -> Tensor:
    y: Tensor = layer(norm(x), None, shared)[0]
    return y


@torch.no_grad()
def dropout(architecture: Architecture) -> Finding:
    """1. Evaluation drops nothing; training draws 2. from the seed that is given, so that it repeats, and
    3. with another seed otherwise.
    """
    rate = architecture.config.parse(architecture.tiny).dropout or 0.1
    model, without = (smallest_redrawn(architecture, {"dropout": p}) for p in (rate, 0.0))
    reasons = Reasons()
    if not torch.equal(_drawn(model, 0), _drawn(without, 1)):
        reasons.note(1, "evaluation with a dropout rate gives other logits than without one")
    model.train()
    once, again, other = (_drawn(model, seed) for seed in (0, 0, 1))
    if not torch.equal(once, again):
        reasons.note(2, "training with one seed twice gives other logits: something is drawn from elsewhere")
    if torch.equal(once, other) or torch.equal(once, _drawn(model.eval(), 0)):
        reasons.note(3, "training gives the logits of another seed, or of evaluation: nothing is dropped")
    return reasons.finding("dropout", "drawn in training from the seed that is given, absent in evaluation")


def _drawn(model: LanguageModel, seed: int) -> Tensor:
    with seeded(model, seed):
        logits: Tensor = model(ids_for(model))
    return logits


def storing(architecture: Architecture) -> Finding:
    """1. Saved and loaded weights give the same logits to the last bit."""
    model, reasons = smallest_redrawn(architecture), Reasons()
    stored = save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})
    other = assemble(architecture, architecture.config.parse(architecture.tiny)).eval()
    other.load_state_dict(load(stored))
    with torch.no_grad():
        if not torch.equal(model(ids_for(model)), other(ids_for(model))):
            reasons.note(1, "loaded weights give other logits: something that decides them is no parameter or buffer")
    return reasons.finding("storing", "saved and loaded weights give the same logits")
