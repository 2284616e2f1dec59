"""Draws made steady, masks that are no weights, and estimates that are kept: what a check may take out of a model."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.evaluation.audit import add_redrawn, borrowed
from assay.evaluation.audit.draws import HeldDraws, ReseededDraws
from assay.evaluation.audit.dropout import estimates_kept
from plain_models import D, seeded, small
from sound_modes import MaskParameter, SpectralNorm


def drawn() -> list[Tensor]:
    probabilities = torch.full((4, 5), 0.5)
    return [
        torch.rand(4, 5),
        torch.randn(4, 5),
        torch.rand_like(probabilities),
        torch.empty(4, 5).uniform_(),
        torch.empty(4, 5).bernoulli_(0.5),
        torch.bernoulli(probabilities),
        F.gumbel_softmax(probabilities, hard=True),
        torch.multinomial(probabilities, 2),
    ]


def test_held_draws_are_the_same_whatever_was_drawn() -> None:
    with torch.random.fork_rng(devices=[]), HeldDraws():
        first = drawn()
        torch.rand(3)
        again = drawn()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].unique().tolist() == pytest.approx([0.6])


def test_a_reseeded_draw_depends_on_its_number_alone() -> None:
    sides = []
    with torch.random.fork_rng(devices=[]):
        for count in (3, 300):
            with ReseededDraws(0):
                torch.rand(count)
                sides.append(drawn())
        with ReseededDraws(1):
            torch.rand(3)
            other = drawn()
    assert all(torch.equal(a, b) for a, b in zip(*sides, strict=True))
    assert not torch.equal(sides[0][0], other[0])
    assert not torch.equal(sides[0][0], sides[0][2])


@pytest.mark.parametrize("shut", ["compared", "-inf", "-1e9"])
def test_a_mask_keeps_its_values_on_the_redrawn_copy(shut: str) -> None:
    with borrowed(seeded(lambda: small(MaskParameter(shut)), 0), longest=8) as subject:  # type: ignore[arg-type]
        mask, value = (subject.model.get_parameter(f"blocks.1.mixer.{name}") for name in ("mask", "value.weight"))
        before = mask.clone(), value.clone()
        add_redrawn(subject, 0)
        subject.use("redrawn")
        assert torch.equal(mask, before[0])
        assert not torch.equal(value, before[1])


def test_two_values_that_are_trained_are_weights() -> None:
    linear = nn.Linear(D, D)
    with torch.no_grad():
        linear.weight.copy_(linear.weight.sign())
    with borrowed(small(linear), longest=8) as subject:
        before = subject.model.get_parameter("blocks.1.mixer.weight").clone()
        add_redrawn(subject, 0)
        subject.use("redrawn")
        assert not torch.equal(subject.model.get_parameter("blocks.1.mixer.weight"), before)


@pytest.mark.parametrize("older", [False, True])
def test_spectral_norms_keep_their_estimate(older: bool) -> None:
    layer = seeded(lambda: SpectralNorm(older), 0).train()
    for buffer in layer.buffers():  # an estimate that is off yet
        buffer.copy_(F.normalize(buffer.cumsum(0), dim=0))
    x = torch.ones(1, 3, D)
    with estimates_kept(layer):
        kept = [layer(x) for _ in range(2)]
    moving = [layer(x) for _ in range(2)]
    assert torch.equal(*kept)
    assert not torch.equal(*moving)
