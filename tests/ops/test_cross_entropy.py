"""The chunked cross-entropy answers to torch's, value and gradients, whatever the chunking."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from assay.ops import cross_entropy
from assay.ops.cross_entropy import summed_nats, token_nats
from assay.targets import IGNORED


@pytest.mark.parametrize("slice_logits", [1, 40 * 7, 1 << 18])
@pytest.mark.parametrize("chunk_bytes", [1, 8 * 40 * 17, 1 << 23])
def test_equals_torch(chunk_bytes: int, slice_logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(cross_entropy, "SLICE_LOGITS", slice_logits)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(53, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(40, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 40, (53,), generator=generator)
    targets[::7] = IGNORED
    ours = summed_nats(hidden, weight, targets)
    theirs = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    for a, b in zip(
        torch.autograd.grad(3 * ours, [hidden, weight]), torch.autograd.grad(3 * theirs, [hidden, weight]), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        each = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
        torch.testing.assert_close(token_nats(hidden, weight, targets), each)
        torch.testing.assert_close(summed_nats(hidden, weight, targets), theirs.detach())


@pytest.mark.parametrize("scored", [0, 1, 10, 53])
def test_logits_are_formed_where_something_is_scored_alone(scored: int) -> None:
    """Forward one product, for the gradients two more; what is not scored has a gradient of zero."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(53, 8, generator=generator, requires_grad=True)
    weight = torch.randn(40, 8, generator=generator)
    targets = torch.full((53,), IGNORED)
    places = torch.randperm(53, generator=generator)[:scored]
    targets[places] = torch.randint(0, 40, (scored,), generator=generator)
    with FlopCounterMode(display=False) as counter:
        nats = summed_nats(hidden, weight, targets)
        assert counter.get_total_flops() == 3 * 2 * scored * 8 * 40
        each = token_nats(hidden.detach(), weight, targets)
        assert counter.get_total_flops() == 4 * 2 * scored * 8 * 40
    assert each.sum().item() == pytest.approx(nats.item())
    assert torch.equal(each.nonzero().squeeze(1), places.sort().values)
    (gradient,) = torch.autograd.grad(nats, hidden)
    assert torch.equal(gradient.abs().sum(1).nonzero().squeeze(1), places.sort().values)


def test_large_logits_stay_finite() -> None:
    hidden = torch.full((4, 2), 300.0, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    loss = summed_nats(hidden, weight, torch.tensor([0, 1, 2, IGNORED]))
    loss.backward()
    assert loss.item() == pytest.approx(300.0 + 900.0)
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_bfloat16_autocast_sums_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 32, generator=generator, requires_grad=True)
    weight = torch.randn(50, 32, generator=generator) / 6
    targets = torch.randint(0, 50, (64,), generator=generator)
    exact = summed_nats(hidden, weight, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = summed_nats(hidden, weight, targets)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=1e-2)
    rough.backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()
