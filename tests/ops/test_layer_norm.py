"""Layer normalisation: torch's, and one pass in C++ that answers to the formula in float64, gradients too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.ops.layer_norm import _layer_norm, layer_norm
from assay.ops.layer_norm_native import LAYER_NORM_NATIVE
from assay.ops.native.kernels import load, native_ops
from assay.ops.native.processor import types_here
from assay.ops.opaque import prepare_native

native = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")

FAR = {torch.float32: 2e-6, torch.bfloat16: 2**-8}
"""Relative norms of differences: a few roundings, and one in bfloat16."""


def inputs(tokens: tuple[int, ...], G: int, D: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x with a mean that is not zero, weight, bias, and the gradient at y."""
    generator = torch.Generator().manual_seed(G * D)
    shapes = ((*tokens, G, D), (G, D), (G, D), (*tokens, G, D))
    x, weight, bias, dy = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    other = torch.float64 if dtype == torch.float64 else torch.float32
    return (x + 1).to(dtype), weight.to(other), bias.to(other), dy.to(dtype)


def formula(x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor, eps: float) -> list[Tensor]:
    wide = [part.double().requires_grad_() for part in (x, weight, bias)]
    mean = wide[0].mean(-1, keepdim=True)
    away = wide[0] - mean
    y = away / ((away**2).mean(-1, keepdim=True) + eps).sqrt() * wide[1] + wide[2]
    return [y.detach(), *torch.autograd.grad(y, wide, dy.double())]


@pytest.mark.parametrize("form", ["torch's", "by hand"])
@pytest.mark.parametrize("G", [1, 3])
@pytest.mark.parametrize("tokens", [(), (4,), (2, 5)])
def test_python_forms_are_the_formula(tokens: tuple[int, ...], G: int, form: str) -> None:
    *parts, dy = inputs(tokens, G, 8, torch.float64)
    x, weight, bias = (part.requires_grad_() for part in parts)
    y = layer_norm(x, weight, bias, 1e-3) if form == "torch's" else _layer_norm(x, weight, bias, option=(1e-3,))[0]
    found = [y.detach(), *torch.autograd.grad(y, (x, weight, bias), dy)]
    torch.testing.assert_close(found, formula(x, weight, bias, dy, 1e-3))


def test_statistics_of_bfloat16_are_float32() -> None:
    """Numbers that are near each other and far from zero have a variance that sums in bfloat16 would miss."""
    x = torch.where(torch.arange(4096) % 2 == 0, 256.0, 258.0).bfloat16().view(1, 1, -1)
    y = layer_norm(x, torch.ones(1, 4096), torch.zeros(1, 4096), 0.0)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y.flatten()[:2], torch.tensor([-1.0, 1.0]).bfloat16())


@native
@settings(deadline=None)
@given(
    tokens=st.integers(1, 200), G=st.integers(1, 4), D=st.integers(1, 100), eps=st.sampled_from([1e-5, 1e-2]),
    dtype=st.sampled_from(types_here()),
)  # fmt: skip
def test_the_cpp_form_is_the_formula(tokens: int, G: int, D: int, eps: float, dtype: torch.dtype) -> None:
    load("layer_norm")
    x, weight, bias, dy = inputs((tokens,), G, D, dtype)
    (y,), rest = LAYER_NORM_NATIVE.forward(x, weight, bias, eps)
    found = [y, *LAYER_NORM_NATIVE.gradient((dy,), (x, weight, *rest), eps)]
    assert [one.dtype for one in found] == [dtype, dtype, torch.float32, torch.float32]
    # What is left of dx may be small beside the terms that it is the difference of, and of the weight's beside its.
    rates = (x.double().var(-1, correction=0, keepdim=True) + eps).rsqrt()
    spread = float((dy * weight * rates).norm())
    sizes = (0.0, spread * 4, float((dy * x * rates).norm()), float(dy.norm()))
    for one, true, size in zip(found, formula(x, weight, bias, dy, eps), sizes, strict=True):
        assert one.shape == true.shape
        assert float((one.double() - true).norm()) <= FAR[one.dtype] * max(float(true.norm()), size)


@native
def test_threads_and_how_memory_lies_change_no_bit() -> None:
    load("layer_norm")
    x, weight, bias, dy = inputs((7, 90), 2, 33, torch.float32)

    def results(x: Tensor, dy: Tensor) -> list[Tensor]:
        (y,), rest = LAYER_NORM_NATIVE.forward(x, weight, bias, 1e-5)
        return [y, *LAYER_NORM_NATIVE.gradient((dy,), (x, weight, *rest), 1e-5)]

    expected = results(x, dy)
    torch.set_num_threads(3)
    try:
        for one, other in zip(results(x, dy), expected, strict=True):
            assert torch.equal(one, other)
    finally:
        torch.set_num_threads(1)
    for one, other in zip(results(*(part.transpose(0, 1).contiguous().transpose(0, 1) for part in (x, dy))), expected,
                          strict=True):  # fmt: skip
        assert torch.equal(one, other)


@native
@pytest.mark.usefixtures("_cache")
def test_training_takes_it_and_leaves_other_shapes_and_float64_to_torch() -> None:
    assert prepare_native([]) == {}
    with native_ops(on=True):
        for dtype, G, taken in ((torch.float32, 2, True), (torch.float64, 2, False)):
            x, weight, bias, _ = inputs((3,), G, 8, dtype)
            assert _layer_norm.runs_native(x, weight, bias, option=(1e-5,)) == taken
            found = layer_norm(x, weight, bias, 1e-5)
            torch.testing.assert_close(found.double(), formula(x, weight, bias, x, 1e-5)[0], rtol=1e-5, atol=1e-5)
        x, weight, bias, _ = inputs((3,), 1, 8, torch.float32)
        assert not _layer_norm.runs_native(x, weight.expand(2, 8), bias.expand(2, 8), option=(1e-5,))
