"""Orthogonal factors for Muon: the iteration in float64 is met by the form in Python and by the one in C++, whatever
the shape and the threads.
"""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.ops import orthogonal
from assay.ops.native.kernels import KERNELS
from assay.ops.orthogonal import NewtonSchulz, in_cpp_here, prepare_orthogonal

BY = NewtonSchulz(3.4445, -4.775, 2.0315, 1e-7, 5)
"""Torch's coefficients and steps."""
native = pytest.mark.skipif(not in_cpp_here(), reason="needs a processor with AVX512-BF16")


@pytest.fixture(autouse=True)
def _built(_cache: None) -> None:
    assert not in_cpp_here() or prepare_orthogonal() is None


def matrices(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def definition(found: Tensor, by: NewtonSchulz) -> Tensor:
    """The iteration in float64."""
    x = found.double()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(by.least_norm)
    for _ in range(by.steps):
        gram = x @ x.mT
        x = by.a * x + (by.b * gram + by.c * gram @ gram) @ x
    return x.mT if tall else x


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", [(3, 24, 40), (2, 40, 24), (1, 17, 17), (2, 1, 9)])
def test_the_python_form_is_the_iteration(shape: tuple[int, ...]) -> None:
    found = orthogonal.orthogonal(matrices(*shape), BY)
    assert found.shape == shape
    assert found.dtype == torch.float32
    assert apart(found, definition(matrices(*shape), BY)) < 0.03, "roundings of five steps in bfloat16"


@native
@settings(deadline=None)
@given(
    N=st.integers(1, 4), R=st.integers(1, 70), C=st.integers(1, 300), steps=st.integers(0, 5),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e6]),
)  # fmt: skip
def test_the_cpp_form_is_the_iteration(N: int, R: int, C: int, steps: int, scale: float) -> None:
    given_, by = matrices(N, R, C, scale=scale), BY._replace(steps=steps)
    found = orthogonal.orthogonal(given_, by, native=True)
    assert found.shape == given_.shape
    # A step multiplies small singular values, and what was rounded of them, by up to 3.4; large ones it draws together.
    # The largest error of 1,600 drawn matrices was 0.041, in either form.
    assert apart(found, definition(given_, by)) <= min(2**-8 * 3.5**steps, 0.08)


@native
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_cpp_form_is_as_exact_as_the_python_form(steps: int) -> None:
    by = BY._replace(steps=steps)
    errors: dict[bool, list[float]] = {True: [], False: []}
    for R in range(3, 60, 2):
        given_ = matrices(1, R, 3 * R + 1)
        for native_, found in errors.items():
            found.append(apart(orthogonal.orthogonal(given_, by, native=native_), definition(given_, by)))
    assert sum(errors[True]) <= 1.1 * sum(errors[False])
    assert errors[True] != errors[False], "each form has roundings of its own"


@native
def test_a_matrix_of_zeros_stays_and_others_beside_it_are_not_touched() -> None:
    given_ = matrices(3, 19, 33)
    alone = orthogonal.orthogonal(given_, BY, native=True)
    given_[1] = 0
    beside = orthogonal.orthogonal(given_, BY, native=True)
    assert beside[1].abs().max() == 0
    assert torch.equal(beside[[0, 2]], alone[[0, 2]])


@native
def test_bits_do_not_depend_on_threads_or_on_how_memory_lies() -> None:
    given_ = matrices(5, 33, 48)
    one = orthogonal.orthogonal(given_, BY, native=True)
    torch.set_num_threads(3)
    try:
        assert torch.equal(orthogonal.orthogonal(given_, BY, native=True), one)
    finally:
        torch.set_num_threads(1)
    turned = given_.mT.contiguous()
    assert torch.equal(orthogonal.orthogonal(turned, BY, native=True).mT, one), "tall ones are turned"


@native
@pytest.mark.parametrize("which", ["large", "float64", "not asked for"])
def test_the_python_form_takes_what_the_other_does_not(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("in C++")

    monkeypatch.setattr(orthogonal, "_in_cpp", refuse)
    given_ = {"large": matrices(1, 300, 300), "float64": matrices(1, 4, 6).double(), "not asked for": matrices(1, 4, 6)}
    found = orthogonal.orthogonal(given_[which], BY, native=which != "not asked for")
    assert found.dtype == given_[which].dtype
    assert apart(found, definition(given_[which], BY)) < 0.05


@native
def test_a_form_that_is_wrong_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    right: Callable[[Tensor, NewtonSchulz], Tensor] = orthogonal._in_cpp
    monkeypatch.setattr(orthogonal, "_in_cpp", lambda wide, by: 1.1 * right(wide, by))
    monkeypatch.setattr(KERNELS, "ready", set())
    monkeypatch.setattr(KERNELS, "refused", {})
    assert str(prepare_orthogonal()).startswith("its check failed: a matrix is 1.0e-01 off")
    assert not KERNELS.ready
