"""What a check may take out of a model: random draws (replaced by fixed numbers), masks stored as parameters, and
estimates that training mode refines.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.audit import add_redrawn, borrowed
from assay.audit.subject.draws import Source, SteadyDraws, held, patterned
from assay.audit.subject.dropout import estimates_kept
from plain_models import D, seeded, small
from sound_modes import MaskParameter, SpectralNorm


def drawn(rows: int) -> list[Tensor]:
    """Every kind of draw, of `rows` rows."""
    x = torch.linspace(-1, 1, rows * 5).view(rows, 5)
    half = torch.full((rows, 5), 0.5)
    return [
        torch.rand(rows, 5),
        torch.randn(rows, 5),
        torch.rand_like(half),
        torch.randn_like(half),
        torch.empty(rows, 5).uniform_(-1, 1),
        torch.empty(rows, 5).normal_(1, 2),
        torch.empty(rows, 5).bernoulli_(0.5),
        torch.empty(rows, 5).exponential_(),
        torch.bernoulli(half),
        half.bernoulli(),
        F.dropout(half, 0.5),
        F.dropout(input=half, p=0.5, training=True),
        F.rrelu(-half, training=True),
        F.gumbel_softmax(half, hard=True, eps=1e-9),
        torch.multinomial(half, 2),
        F.dropout1d(x.abs() + 1, 0.0),
    ]


@pytest.mark.parametrize("source", [held, patterned])
def test_steady_draws_are_the_same_whatever_was_drawn_before(source: Source) -> None:
    sides = []
    for count in (1, 300):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(count)
            with SteadyDraws(source):
                torch.rand(count)
                sides.append(drawn(4))
    assert all(torch.equal(a, b) for a, b in zip(*sides, strict=True))


def test_a_pattern_keeps_its_beginning_where_more_is_drawn() -> None:
    with SteadyDraws(patterned):
        few, many = drawn(4)[:-1], drawn(9)[:-1]
    assert all(torch.equal(a, b[:4]) for a, b in zip(few, many, strict=True)), "1. the first rows are the same"
    assert few[0].unique().numel() == 20, "2. no number comes twice"
    assert 0.3 < many[0].mean() < 0.7, "3. uniform numbers are spread evenly"
    assert abs(many[1].mean()) < 0.3, "4. normal numbers have a mean of about 0 ..."
    assert 0.6 < many[1].std() < 1.4, "... and a standard deviation of about 1"
    assert set(many[8].unique().tolist()) == {0.0, 1.0}, "5. binary draws are 0 and 1"
    assert set(many[10].unique().tolist()) == {0.0, 1.0}, "5. binary draws are 0 and 1"


def test_held_draws_are_all_alike() -> None:
    with SteadyDraws(held):
        assert torch.rand(3, 4).unique().tolist() == pytest.approx([0.6])


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
