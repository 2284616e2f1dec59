"""Draws: uniform, independent between seeds, places and positions, the same for a seed, and of no generator."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from assay.evaluation.generators import drawn_so_far
from assay.layers.randomness import Dropout, Masking, drawn_by, maskings, random_words, seeded
from assay.model.architecture import ARCHITECTURES, build_model
from assay.ops.execution import Execution, Form

N = 1 << 16


def words(seed: int, place: int = 0, size: int = N) -> Tensor:
    return random_words((size,), torch.tensor(seed), place)


def signs(seed: int, place: int = 0) -> Tensor:
    return (words(seed, place) >= 1 << 31).double() * 2 - 1


@pytest.mark.parametrize("seed", [0, 1, 2**62 + 12345, (1 << 63) - 1])
def test_words_are_uniform(seed: int) -> None:
    """Chi-square over 256 equal bins of the highest and of the lowest bits, within five standard deviations."""
    drawn = words(seed)
    assert drawn.min() >= 0
    assert drawn.max() < 1 << 32
    for bins in (drawn >> 24, drawn & 255):
        counts = torch.bincount(bins, minlength=256).double()
        chi_square = ((counts - N / 256).square() / (N / 256)).sum().item()
        assert abs(chi_square - 255) < 5 * (2 * 255) ** 0.5


def test_seeds_places_and_neighbours_are_independent() -> None:
    """Correlations of signs have a standard deviation of 1 / sqrt(N): of some hundred none exceeds five."""
    rows = torch.stack([signs(seed, place) for seed in (0, 1, 2, 3, 1 << 32, 1 << 40) for place in (0, 1, 2)])
    between = (rows @ rows.T / N**0.5).fill_diagonal_(0)
    assert between.abs().max() < 5
    for lag in (1, 2, 3, 64, 256, 1000):
        within = (rows[:, lag:] * rows[:, :-lag]).sum(1) / N**0.5
        assert within.abs().max() < 5, lag


def test_no_two_seeds_share_their_numbers_in_another_order() -> None:
    """Seeds that differ in one half alone give other sets of numbers, not the same ones moved."""
    first = set(words(5).tolist())
    for other in (6, 5 + (1 << 32), 5 + (3 << 40)):
        assert len(first & set(words(other).tolist())) < 20, "about N * N / 2**32 = 1 by chance"


def test_a_mask_is_a_function_of_the_seed_and_of_the_layers_place() -> None:
    model = nn.Sequential(Dropout(0.4), nn.Identity(), Dropout(0.4)).train()
    x = torch.ones(4, 50, 30)
    before = drawn_so_far()
    with seeded(model, 3):
        first = model[0](x)
        assert not torch.equal(model[0](x), first), "1. a layer that draws twice in a call draws two masks"
        second = model[2](x)
    assert drawn_so_far() == before, "2. no global generator is used"
    assert not torch.equal(first, second), "3. two layers of one shape get different masks"
    with seeded(model, torch.tensor(3)):
        assert torch.equal(model[0](x), first), "4. a seed may be a tensor"
    with seeded(model, 4):
        assert not torch.equal(model[0](x), first), "5. another seed gives another mask"
    kept = (first > 0).double().mean().item()
    assert kept == pytest.approx(0.6, abs=5 * (0.24 / x.numel()) ** 0.5), "6. the share kept is 1 - p"
    assert first.max().item() == pytest.approx(1 / 0.6), "7. what is kept is divided by 1 - p"
    assert torch.equal(model.eval()(x), x), "8. evaluation drops nothing"


def test_without_a_seed_every_call_draws_anew_and_a_copy_goes_on_alike() -> None:
    layer = Dropout(0.5).train()
    x = torch.ones(64)
    once, other = layer(x), copy.deepcopy(layer)
    assert not torch.equal(layer(x), once)
    assert torch.equal(other(x), copy.deepcopy(layer.__class__(0.5).train())(x)) is False, "it has drawn once before"
    assert layer.state_dict() == {}
    with seeded(layer, 9):
        layer(x)
    fresh = Dropout(0.5).train()
    fresh(x)
    fresh(x)
    assert torch.equal(layer(x), fresh(x)), "a seeded call does not count"


def test_the_layers_of_a_model_draw_apart_also_without_a_seed() -> None:
    architecture = ARCHITECTURES.get("gpt2")
    model = build_model(architecture, architecture.config.parse({**architecture.tiny, "dropout": 0.5}), 0).train()
    layers = maskings(model)
    masks = [layer.keep((256,), 0.5, torch.ones(1)) for layer in layers]
    assert len(layers) > 4
    assert len({tuple(mask.tolist()) for mask in masks}) == len(layers)


@pytest.mark.parametrize("form", ["loop", "chunked"])
@pytest.mark.parametrize("name", ["gpt2", "sliding-window", "rwkv6"])
def test_no_two_masks_of_one_forward_are_alike(name: str, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block drops what its mixer adds and what its channel mixer adds; the loop drops weights query by query."""
    seen: list[tuple[float, ...]] = []
    keep = Masking.keep

    def watched(self: Masking, shape: Sequence[int], drop: float, like: Tensor) -> Tensor:
        mask = keep(self, shape, drop, like)
        seen.append(tuple(mask.flatten()[:48].tolist()))
        return mask

    monkeypatch.setattr(Masking, "keep", watched)
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse({**architecture.tiny, "dropout": 0.5}), 0).train()
    model.set_execution(Execution(form, 8))
    with seeded(model, 7):
        model(torch.zeros(4, 24, dtype=torch.long))
    whole = [mask for mask in seen if len(mask) == 48]
    assert len(whole) > 4
    assert len(set(whole)) == len(whole)


def test_draws_can_come_from_elsewhere() -> None:
    layer = Dropout(0.5).train()
    with drawn_by(layer, lambda shape: torch.linspace(0, 1, shape[-1]).expand(*shape)):
        assert layer(torch.ones(2, 4)).tolist() == [[0, 0, 2, 2]] * 2
