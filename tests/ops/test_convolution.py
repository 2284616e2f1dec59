"""The shifted form of the causal convolution against the loop, and the loop against torch's conv1d."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from assay.ops.convolution import causal_convolution
from assay.ops.execution import Execution, Form, recorded_forms


def draw(tokens: int, width: int = 4, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """x, weight, bias and a state, for 2 sequences of 3 channels."""
    generator = torch.Generator().manual_seed(tokens)
    shapes = [(2, tokens, 3), (3, width), (3,), (2, width - 1, 3)]
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def run(form: Form, inputs: list[Tensor]) -> list[Tensor]:
    """y, the state, and the gradients of all four inputs."""
    x, weight, bias, state = (tensor.detach().clone().requires_grad_() for tensor in inputs)
    y, after = causal_convolution(x, weight, bias, state, Execution(form))
    loss = (y * y.detach().cos()).sum() + (after * after.detach().sin()).sum()
    gradients = torch.autograd.grad(loss, [x, weight, bias, state], materialize_grads=True)
    return [y, after, *gradients]


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 37])
def test_shifted_equals_the_loop(tokens: int, width: int) -> None:
    inputs = draw(tokens, width)
    for one, other in zip(run("chunked", inputs), run("loop", inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_float32_is_as_accurate_as_the_loop() -> None:
    inputs = draw(101, dtype=torch.float32)
    oracle = run("loop", draw(101))
    for form in ("loop", "chunked"):
        for result, true in zip(run(form, inputs), oracle, strict=True):
            assert (result - true).abs().max() <= 1e-6 * true.abs().max()


@pytest.mark.parametrize("form", ["loop", "chunked"])
@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_the_loop_is_a_padded_conv1d(form: Form, tokens: int) -> None:
    x, weight, bias, _ = draw(tokens)
    padded = F.pad(x.transpose(1, 2), (3, 0))
    expected = F.conv1d(padded, weight[:, None], bias, groups=3).transpose(1, 2)
    y, state = causal_convolution(x, weight, bias, None, Execution(form))
    torch.testing.assert_close(y, expected)
    assert torch.equal(state, padded.transpose(1, 2)[:, -3:])
    without_bias, _ = causal_convolution(x, weight, None, None, Execution(form))
    torch.testing.assert_close(without_bias + bias, expected)


def test_segments_with_a_carried_state_are_the_whole() -> None:
    x, weight, bias, state = draw(20)
    whole, last = causal_convolution(x, weight, bias, state, Execution("loop"))
    parts = []
    for first, end in ((0, 1), (1, 3), (3, 14), (14, 20)):
        y, state = causal_convolution(x[:, first:end], weight, bias, state, Execution())
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-12)
    assert torch.equal(state, last)


def test_gradcheck_of_the_written_backward_pass() -> None:
    inputs = [tensor.requires_grad_() for tensor in draw(3)]
    assert torch.autograd.gradcheck(lambda x, w, b, state: causal_convolution(x, w, b, state, Execution()), inputs)


def test_low_precision_is_summed_in_float32() -> None:
    x, weight, bias, state = draw(9, dtype=torch.bfloat16)
    y, after = causal_convolution(x, weight, bias, state, Execution())
    expected, _ = causal_convolution(x.float(), weight.float(), bias.float(), state.float(), Execution("loop"))
    assert (y.dtype, after.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.equal(y, expected.bfloat16())


def test_the_form_that_ran_is_recorded() -> None:
    x, weight, bias, state = draw(5)
    for form in ("loop", "chunked"):
        with recorded_forms() as forms:
            causal_convolution(x, weight, bias, state, Execution(form))
        assert forms == {"convolution": {form}}
