"""Token shift: the gradient by hand, and the form in C++, are those of the formula in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.ops.native.kernels import load, native_ops
from assay.ops.native.processor import types_here
from assay.ops.opaque import prepare_native
from assay.ops.token_shift import mixtures, shift_difference, token_shift
from assay.ops.token_shift_native import MOST, TOKEN_SHIFT_NATIVE

needs_cpp = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")

FAR = {torch.float32: 1e-6, torch.bfloat16: 2**-8}
"""Relative norms of differences: a few roundings, and one in bfloat16."""


@pytest.fixture(autouse=True)
def _built(_cache: None) -> None:
    if types_here():
        load("token_shift")


def draw(S: int, B: int, T: int, D: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shares, x, the input before, and the gradient of the mixtures."""
    generator = torch.Generator().manual_seed(S * T + D)
    shares = torch.rand(S, D, generator=generator)
    x, last, dy = (torch.randn(shape, generator=generator) for shape in ((B, T, D), (B, D), (S, B, T, D)))
    return shares.to(dtype), x, last, dy.to(dtype)


def formula(shares: Tensor, x: Tensor, last: Tensor, dy: Tensor) -> list[Tensor]:
    """Mixtures, token by token, and the gradients of shares, x and last, in float64."""
    shares, x, last = wide = [part.double().requires_grad_() for part in (shares, x, last)]
    before = torch.stack([last, *x.unbind(1)[:-1]], 1)
    y = torch.stack([x + share * (before - x) for share in shares])
    return [y.detach(), *torch.autograd.grad(y, wide, dy.double())]


@pytest.mark.parametrize(("S", "B", "T", "D"), [(1, 1, 1, 1), (6, 2, 5, 4), (2, 3, 7, 8)])
def test_the_gradient_by_hand_is_that_of_the_formula(S: int, B: int, T: int, D: int) -> None:
    shares, x, last, dy = draw(S, B, T, D)
    wide = [part.double().requires_grad_() for part in (shares, x, last)]
    y = token_shift(wide[1], wide[2], wide[0])
    found = [y.detach(), *torch.autograd.grad(y, wide, dy.double())]
    for one, two in zip(found, formula(shares, x, last, dy), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    composed = mixtures(wide[1], shift_difference(wide[1], wide[2]), wide[0][:, None, None])
    assert torch.equal(composed, y), "what compiled graphs hold"


def test_without_an_input_before_it_is_zeros() -> None:
    shares, x, last, _ = draw(2, 2, 3, 5)
    assert torch.equal(token_shift(x, None, shares), token_shift(x, torch.zeros_like(last), shares))


def test_mixtures_have_the_type_of_products_and_gradients_that_of_their_operands() -> None:
    shares, x, last, dy = draw(2, 2, 3, 5, torch.bfloat16)
    operands = [part.float().requires_grad_() for part in (shares, x, last)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = token_shift(operands[1], operands[2], operands[0])
    assert y.dtype == torch.bfloat16
    assert [part.dtype for part in torch.autograd.grad(y, operands, dy)] == [torch.float32] * 3


@needs_cpp
@settings(deadline=None)
@given(
    S=st.integers(1, MOST), B=st.integers(1, 3), T=st.integers(1, 150), D=st.integers(1, 70),
    dtype=st.sampled_from(types_here() or [torch.float32]),
)  # fmt: skip
def test_the_form_in_cpp_is_the_formula(S: int, B: int, T: int, D: int, dtype: torch.dtype) -> None:
    shares, x, last, dy = draw(S, B, T, D, dtype)
    (y,), _ = TOKEN_SHIFT_NATIVE.forward(shares, x, last)
    results = [y, *TOKEN_SHIFT_NATIVE.gradient((dy,), (shares, x, last))]
    assert [result.dtype for result in results] == [dtype, dtype, torch.float32, torch.float32]
    # A gradient may be small beside the terms that it is the sum of, which are of the order of 1.
    for result, true in zip(results, formula(shares, x, last, dy), strict=True):
        apart = float((result.double() - true).norm())
        assert apart <= FAR[result.dtype] * (float(true.norm()) + dy.numel() ** 0.5)


@needs_cpp
def test_views_and_threads_change_no_bit() -> None:
    shares, x, last, dy = draw(3, 2, 200, 33)

    def run(x: Tensor, dy: Tensor) -> list[Tensor]:
        outputs, _ = TOKEN_SHIFT_NATIVE.forward(shares, x, last)
        return [*outputs, *TOKEN_SHIFT_NATIVE.gradient((dy,), (shares, x, last))]

    expected, before = run(x, dy), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert all(map(torch.equal, run(x.mT.contiguous().mT, dy.mT.contiguous().mT), expected))
    finally:
        torch.set_num_threads(before)


@needs_cpp
def test_training_calls_it_where_it_can() -> None:
    """Not for inputs in another type than float32, and not for more shares than it has."""
    shares, x, last, _ = draw(MOST + 1, 2, 5, 7)
    assert prepare_native([]) == {}
    (expected,), _ = TOKEN_SHIFT_NATIVE.forward(shares[:3], x, last)
    with native_ops(True):
        assert torch.equal(token_shift(x, last, shares[:3]), expected)
        for operands in ((x, last, shares), (x.double(), last.double(), shares.double())):
            torch.testing.assert_close(
                token_shift(*operands).double(),
                formula(operands[2], *operands[:2], torch.zeros(len(shares), 2, 5, 7))[0],
            )
