"""Root mean square normalisation in C++ against its formula in float64, gradients too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from assay.ops.native.kernels import load, native_ops
from assay.ops.native.processor import types_here
from assay.ops.opaque import prepare_native
from assay.ops.rms_norm import rms_norm
from assay.ops.rms_norm_native import RMS_NORM_NATIVE

pytestmark = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")

FAR = {torch.float32: 1e-6, torch.bfloat16: 2**-8}
"""Relative norms of differences: a few roundings, and one in bfloat16."""


@pytest.fixture(autouse=True)
def _built(_cache: None) -> None:
    load("rms_norm")


def native(x: Tensor, weight: Tensor, dy: Tensor, eps: float) -> list[Tensor]:
    """y, and the gradients of x and weight."""
    (y,), rest = RMS_NORM_NATIVE.forward(x, weight, eps)
    return [y, *RMS_NORM_NATIVE.gradient((dy,), (x, weight, *rest), eps)]


def formula(x: Tensor, weight: Tensor, dy: Tensor, eps: float) -> list[Tensor]:
    x, weight = (part.double().requires_grad_() for part in (x, weight))
    y = F.rms_norm(x, weight.shape, weight, eps)
    return [y.detach(), *torch.autograd.grad(y, (x, weight), dy.double())]


@settings(deadline=None)
@given(
    rows=st.integers(1, 300), width=st.integers(1, 100), scale=st.sampled_from([1e-4, 1.0, 1e4]),
    eps=st.sampled_from([1e-6, 1e-2]), dtype=st.sampled_from(types_here()),
)  # fmt: skip
def test_it_is_its_formula(rows: int, width: int, scale: float, eps: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows * width)
    x, weight, dy = (torch.randn(shape, generator=generator) for shape in ((rows, width), (width,), (rows, width)))
    inputs = (x * scale).to(dtype), weight, dy.to(dtype)
    results = native(*inputs, eps)
    assert [result.dtype for result in results] == [dtype, dtype, torch.float32]
    # What is left of dx may be small beside the two terms that it is the difference of, and of the weight's beside its.
    rates = (inputs[0].double().square().mean(-1, keepdim=True) + eps).rsqrt()
    terms = (0.0, float((inputs[2] * weight * rates).norm()), float((inputs[2] * inputs[0] * rates).norm()))
    for result, true, size in zip(results, formula(*inputs, eps), terms, strict=True):
        assert float((result.double() - true).norm()) <= FAR[result.dtype] * max(float(true.norm()), size)


def test_views_and_threads_change_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, dy = (torch.randn(shape, generator=generator) for shape in ((7, 90, 33), (33,), (7, 90, 33)))
    expected, before = native(x, weight, dy, 1e-6), torch.get_num_threads()
    strided = [part.transpose(0, 1).contiguous().transpose(0, 1) for part in (x, dy)]
    try:
        torch.set_num_threads(2)
        assert all(map(torch.equal, native(strided[0], weight, strided[1], 1e-6), expected))
    finally:
        torch.set_num_threads(before)


def test_what_training_calls_is_the_native_form_where_it_can_be() -> None:
    """In float64, and with a weight in it, the form in Python."""
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    weight = torch.ones(8)
    assert prepare_native([]) == {}
    (expected,), _ = RMS_NORM_NATIVE.forward(x, weight, 1e-6)
    with native_ops(True):
        assert torch.equal(rms_norm(x, weight, 1e-6), expected)
        for wide in ((x.double(), weight.double()), (x, weight.double())):
            y = rms_norm(*wide, 1e-6)
            assert y.dtype == wide[0].dtype
            torch.testing.assert_close(y.double(), F.rms_norm(x.double(), (8,), weight.double(), 1e-6))
        assert rms_norm(x[:0], weight, 1e-6).shape == (0, 5, 8)
