"""minGRU's scan and the GRU: against their loops, torch's own GRU, and what a carried state must give."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from assay.ops import min_gru as op
from assay.ops.execution import Execution, recorded_forms
from assay.ops.min_gru import min_gru, min_gru_loop, min_gru_scan

# Called with unpacked operands, whose number a type checker does not know.
gru: Callable[..., tuple[Tensor, Tensor]] = op.gru
LOOP, SCAN = Execution("loop"), Execution("chunked")


def draw(centre: float, tokens: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Gates around `centre` (-60: nothing enters, 60: nothing stays), candidates of both signs, a state >= 0."""
    generator = torch.Generator().manual_seed(tokens)
    shapes = ((2, tokens, 5), (2, tokens, 5), (2, 5))
    gate, candidate, state = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return [tensor.to(dtype) for tensor in (centre + gate, 3 * candidate, state.abs())]


def with_gradients(form: object, inputs: list[Tensor]) -> list[Tensor]:
    assert callable(form)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    h = form(*leaves)
    weights = torch.randn(h.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(h)
    return [h.detach(), *torch.autograd.grad((h * weights).sum(), leaves)]


def error(given: list[Tensor], exact: list[Tensor]) -> float:
    """The largest error of any tensor, relative to that tensor's largest entry."""
    pairs = zip(given, exact, strict=True)
    return max(((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-300)).item() for a, b in pairs)


@pytest.mark.parametrize("tokens", [1, 37, 70])
@pytest.mark.parametrize("centre", [-60.0, -3.0, 5.0, 60.0])
def test_the_scan_is_the_loop_forward_and_backward(centre: float, tokens: int) -> None:
    inputs = draw(centre, tokens)
    exact = with_gradients(min_gru_loop, inputs)
    assert error(with_gradients(min_gru_scan, inputs), exact) < 1e-9
    low = [tensor.float() for tensor in inputs]
    exact = with_gradients(min_gru_loop, [tensor.double() for tensor in low])
    allowed = max(1e-4, 3 * error(with_gradients(min_gru_loop, low), exact))
    scanned = with_gradients(min_gru_scan, low)
    assert all(tensor.isfinite().all() for tensor in scanned)
    assert error(scanned, exact) <= allowed


def test_min_gru_is_the_papers_equation() -> None:
    """Two tokens of one channel, worked out by hand: z = 1/2, g(3) = 3.5, g(-log 3) = 1/4."""
    gate = torch.zeros(1, 2, 1, dtype=torch.float64)
    candidate = torch.tensor([3.0, -torch.log(torch.tensor(3.0, dtype=torch.float64))], dtype=torch.float64)
    for execution in (LOOP, SCAN):
        h, last = min_gru(gate, candidate.view(1, 2, 1), torch.ones(1, 1, dtype=torch.float64), execution)
        assert h.flatten().tolist() == pytest.approx([2.25, 1.25], abs=1e-12)
        assert last.item() == pytest.approx(1.25, abs=1e-12)


def gru_weights(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(15, 7), (15, 5), (15,), (15,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) / 2 for shape in shapes]


def sequence(tokens: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, tokens, 7, generator=torch.Generator().manual_seed(tokens), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("execution", [LOOP, SCAN])
def test_gru_is_torchs(execution: Execution) -> None:
    theirs = torch.nn.GRU(7, 5, batch_first=True, dtype=torch.float64)
    weights = gru_weights()
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    theirs.load_state_dict(dict(zip(names, weights, strict=True)))
    leaves = [weight.requires_grad_() for weight in weights]
    start = draw(0.0, 1)[2]
    h, last = gru(sequence(19), *leaves, start, execution)
    expected, expected_last = theirs(sequence(19), start[None])
    torch.testing.assert_close(h, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(last, expected_last[0], rtol=1e-9, atol=1e-12)
    h.sin().sum().backward()
    expected.sin().sum().backward()
    for leaf, parameter in zip(leaves, theirs.parameters(), strict=True):
        torch.testing.assert_close(leaf.grad, parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("op", ["gru", "min_gru"])
@pytest.mark.parametrize("execution", [LOOP, SCAN])
def test_any_split_is_the_whole_and_the_form_is_recorded(op: str, execution: Execution) -> None:
    def run(first: int, end: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        if op == "gru":
            return gru(sequence(23)[:, first:end], *gru_weights(), state, execution)
        gate, candidate, _ = draw(-2.0, 23)
        return min_gru(gate[:, first:end], candidate[:, first:end], state, execution)

    with recorded_forms() as forms:
        whole, last = run(0, 23, None)
    assert forms == {op: {execution.form}}
    with recorded_forms() as forms:
        run(0, 1, None)
    assert forms == {op: {"loop"}}
    for cuts in ((0, 1, 23), (0, 16, 17, 23), range(24)):
        state, parts = None, []
        for first, end in zip(cuts, [*cuts][1:], strict=False):
            part, state = run(first, end, state)
            parts.append(part)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(state, last, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("execution", [LOOP, SCAN])
def test_states_stay_in_float32_under_autocast(execution: Execution) -> None:
    gate, candidate, _ = draw(0.0, 9, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        results = [
            min_gru(gate, candidate, None, execution),
            gru(sequence(9, torch.bfloat16), *gru_weights(torch.float32), None, execution),
        ]
    for h, state in results:
        assert (h.dtype, state.dtype) == (torch.bfloat16, torch.float32)
        torch.testing.assert_close(h[:, -1], state.bfloat16())
    exact, _ = gru(sequence(9, torch.bfloat16).double(), *gru_weights(torch.float32), None, LOOP)
    torch.testing.assert_close(results[1][0].double(), exact, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(results[1][1].double(), exact[:, -1], rtol=1e-5, atol=1e-5)
