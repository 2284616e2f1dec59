"""Redrawing a model: every parameter of the copy changes, zeros too, and the original does not."""

import math

import pytest
import torch

from assay.audit.redraw import redrawn
from assay.model.architecture import ARCHITECTURES
from evaluation.small import tiny


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_every_parameter_is_drawn_and_the_original_is_not(name: str) -> None:
    model = tiny(name, initialisation="blinkdl")
    before = {key: weight.clone() for key, weight in model.named_parameters()}
    copy = redrawn(model, torch.Generator().manual_seed(0))
    for key, weight in copy.named_parameters():
        assert (weight != before[key]).float().mean() > 0.99, key
        assert weight.isfinite().all()
    assert all(torch.equal(weight, before[key]) for key, weight in model.named_parameters())
    assert [key for key, _ in copy.named_parameters()] == list(before)


def test_matrices_have_unit_gain_and_vectors_keep_their_place() -> None:
    copy = redrawn(tiny(d_model=128, n_heads=2), torch.Generator().manual_seed(0))
    block = copy.sequence_blocks()[0]
    weight = dict(block.mixer.named_parameters())["qkv.weight"]
    assert weight.std().item() == pytest.approx(1 / math.sqrt(128), rel=0.05)
    gain = dict(block.mixer_norm.named_parameters())["weight"]
    assert gain.mean().item() == pytest.approx(1.0, abs=0.05)
    assert gain.std().item() == pytest.approx(0.1, rel=0.3)


def test_a_seed_decides_in_every_type() -> None:
    single, again = (redrawn(tiny(), torch.Generator().manual_seed(1)) for _ in range(2))
    double = redrawn(tiny().double(), torch.Generator().manual_seed(1))
    other = redrawn(tiny(), torch.Generator().manual_seed(2))
    assert torch.equal(single.embedding.tokens, again.embedding.tokens)
    torch.testing.assert_close(double.embedding.tokens.float(), single.embedding.tokens)
    assert not torch.equal(single.embedding.tokens, other.embedding.tokens)


def test_a_tied_head_stays_tied() -> None:
    copy = redrawn(tiny(heads="tied"), torch.Generator().manual_seed(0))
    assert copy.head_weight is copy.embedding.tokens
