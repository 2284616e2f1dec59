"""RMSNorm with its gradient by hand answers to torch's."""

import pytest
import torch
from torch.nn import functional as F

from assay.ops.rms_norm import rms_norm


@pytest.mark.parametrize("shape", [(8,), (1, 8), (3, 5, 8), (2, 1, 7, 8)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_equals_torch(shape: tuple[int, ...], scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).requires_grad_()
    weight = torch.randn(8, generator=generator, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(shape, generator=generator, dtype=torch.float64)
    ours, theirs = rms_norm(x, weight, 1e-6), F.rms_norm(x, (8,), weight, 1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    found, expected = (torch.autograd.grad(y, (x, weight), slope) for y in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_statistics_of_bfloat16_are_float32() -> None:
    """4096 equal numbers have exactly their root mean square, which bfloat16 sums would miss."""
    x = torch.full((2, 4096), 3.0, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.ones(4096, requires_grad=True)
    y = rms_norm(x, weight, 0.0)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, torch.ones_like(y))
    gradients = torch.autograd.grad(y.float().sum(), (x, weight))
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32]
    assert gradients[0].abs().max() < 1e-3
    torch.testing.assert_close(gradients[1], torch.full((4096,), 2.0))
