"""Rotary positions: against a complex product, only distances matter, positions count on."""

import torch

from assay.ops.rotary import rotate


def draw(tokens: int = 9, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, tokens, 3, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_each_pair_is_a_complex_number_that_is_turned() -> None:
    x = draw()
    turned = rotate(x, 5, base=100.0)
    for t in range(9):
        for i in range(4):
            number = torch.complex(x[:, t, :, i], x[:, t, :, i + 4])
            angle = torch.tensor((5 + t) * 100.0 ** (-2 * i / 8), dtype=torch.float64)
            expected = number * torch.polar(torch.ones_like(angle), angle)
            torch.testing.assert_close(turned[:, t, :, i], expected.real)
            torch.testing.assert_close(turned[:, t, :, i + 4], expected.imag)


def test_products_depend_on_the_distance_alone() -> None:
    q, k = draw()[:, :1], draw()[:, 1:2]
    near = [(rotate(q, place + 3, 100.0) * rotate(k, place, 100.0)).sum(-1) for place in (0, 1, 1000, 10**6)]
    for other in near[1:]:
        torch.testing.assert_close(other, near[0], rtol=1e-8, atol=1e-8)
    assert (near[0] - (rotate(q, 4, 100.0) * rotate(k, 0, 100.0)).sum(-1)).abs().min() > 1e-3


def test_positions_count_on() -> None:
    x = draw()
    torch.testing.assert_close(torch.cat([rotate(x[:, :4], 0), rotate(x[:, 4:], 4)], 1), rotate(x, 0))
    assert torch.equal(rotate(x, 0)[:, 0], x[:, 0])


def test_low_precision_is_turned_in_float32() -> None:
    """A bfloat16 angle at position 1000 would be off by radians; the result is off by its own rounding only."""
    x = draw(dtype=torch.float32)
    turned = rotate(x.bfloat16(), 1000)
    assert turned.dtype == torch.bfloat16
    assert (turned.float() - rotate(x.bfloat16().double(), 1000)).abs().max() < 0.01 * x.abs().max()
