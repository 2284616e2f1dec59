"""The chunked SSD against the loop: forward, every gradient and the final state, over the whole range of decays."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from assay.audit.checks.accounting import counted_flops
from assay.ops import ssd as op
from assay.ops.execution import Execution, recorded_forms

LOG_DECAYS = (-1e-6, -0.05, -1.0, -5.0, -20.0, -60.0)
GRID = [*LOG_DECAYS, "mixed"]
Rule = Callable[..., tuple[Tensor, Tensor]]
# Called with unpacked operands, whose number a type checker does not know.
ssd: Rule = op.ssd
ssd_loop: Rule = op.ssd_loop
ssd_chunked: Rule = op.ssd_chunked


def draw(
    log_decay: float | str, tokens: int, dtype: torch.dtype, groups: int = 2, heads: int = 4, seed: int = 0
) -> list[Tensor]:
    """Inputs x, log_decay, b, c and a state; "mixed" draws each element's log-decay from the grid."""
    generator = torch.Generator().manual_seed(seed)
    batch, width, state_width = 2, 5, 6

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if isinstance(log_decay, str):
        chosen = torch.randint(len(LOG_DECAYS), (batch, tokens, heads), generator=generator)
        decays = torch.tensor(LOG_DECAYS, dtype=torch.float64)[chosen]
    else:
        decays = torch.full((batch, tokens, heads), log_decay, dtype=torch.float64)
    inputs = [
        normal(batch, tokens, heads, width),
        decays,
        normal(batch, tokens, groups, state_width),
        normal(batch, tokens, groups, state_width),
        normal(batch, heads, width, state_width),
    ]
    return [tensor.to(dtype) for tensor in inputs]


def run(rule: Rule, inputs: Sequence[Tensor], *arguments: int) -> list[Tensor]:
    """y, the final state, and the gradients of all five inputs under random weights on y and the state."""
    inputs = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    y, state = rule(*inputs, *arguments)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype) for t in (y, state)]
    loss = (y * weights[0]).sum() + (state * weights[1]).sum()
    return [y, state, *torch.autograd.grad(loss, inputs)]


def errors(results: Sequence[Tensor], oracle: Sequence[Tensor]) -> list[float]:
    """Largest deviation of each result over the oracle's largest element."""
    return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(results, oracle, strict=True)]


@pytest.mark.parametrize("log_decay", [*GRID, -0.9, -1.2])
def test_chunked_is_the_loop(log_decay: float | str) -> None:
    """In float64 to 1e-9; in float32 finite and no worse than the loop, gradients included."""
    inputs, low = draw(log_decay, 83, torch.float64), draw(log_decay, 83, torch.float32)
    oracle = run(ssd_loop, inputs)
    allowed = [max(1e-4, 3 * error) for error in errors(run(ssd_loop, low), oracle)]
    for chunk in (16, 32, 64):
        assert max(errors(run(ssd_chunked, inputs, chunk), oracle)) < 1e-9
        results = run(ssd_chunked, low, chunk)
        assert all(result.isfinite().all() for result in results)
        assert all(error <= limit for error, limit in zip(errors(results, oracle), allowed, strict=True))


@pytest.mark.parametrize(("strongest", "allowed"), [(-1e6, 1e-6), (-1e9, 3e-6), (-1e10, 3e-5)])
def test_decays_far_beyond_float32_cost_digits(strongest: float, allowed: float) -> None:
    """One token in ten that forgets all, among mild ones: the bound that the op states, gradients included."""
    inputs = draw(-0.5, 83, torch.float32)
    inputs[1][:, ::10] = strongest
    expected = run(ssd_loop, [tensor.double() for tensor in inputs])
    assert max(errors(run(ssd_chunked, inputs, 64), expected)) < allowed


def test_a_decay_of_minus_infinity_is_the_loops_alone() -> None:
    inputs = draw(-0.5, 83, torch.float32)
    inputs[1][:, 40] = -torch.inf
    assert all(result.isfinite().all() for result in ssd_loop(*inputs))
    assert not ssd_chunked(*inputs, 64)[0].isfinite().all()


@pytest.mark.parametrize(("tokens", "chunk"), [(1, 16), (2, 16), (15, 64), (16, 16), (17, 16), (33, 32), (64, 1)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_any_length_and_any_grouping(tokens: int, chunk: int, groups: int) -> None:
    inputs = draw("mixed", tokens, torch.float64, groups)
    assert max(errors(run(ssd_chunked, inputs, chunk), run(ssd_loop, inputs))) < 1e-9


def test_segments_with_a_carried_state_are_the_whole() -> None:
    x, log_decay, b, c, start = draw("mixed", 83, torch.float64)
    whole, last = ssd_loop(x, log_decay, b, c, start)
    parts, state = [], start
    for first, end in ((0, 1), (1, 30), (30, 32), (32, 83)):
        segment = [tensor[:, first:end] for tensor in (x, log_decay, b, c)]
        y, state = ssd(*segment, state, Execution("chunked", 16))
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state, last, rtol=1e-9, atol=1e-9)


def test_the_loop_is_the_equation() -> None:
    """Token by token with B and C written out per head, in one batch element."""
    x, log_decay, b, c, start = draw("mixed", 7, torch.float64, groups=2)
    y, _ = ssd_loop(x, log_decay, b, c, start)
    for head in range(4):
        state = start[0, head]
        for t in range(7):
            state = log_decay[0, t, head].exp() * state + torch.outer(x[0, t, head], b[0, t, head // 2])
            torch.testing.assert_close(y[0, t, head], state @ c[0, t, head // 2])


def test_no_state_is_a_zero_state() -> None:
    x, log_decay, b, c, start = draw(-1.0, 20, torch.float64)
    for form in ("loop", "chunked"):
        zero = ssd(x, log_decay, b, c, torch.zeros_like(start), Execution(form, 16))
        none = ssd(x, log_decay, b, c, None, Execution(form, 16))
        assert all(torch.equal(one, other) for one, other in zip(zero, none, strict=True))


def test_gradcheck_of_the_written_backward_pass() -> None:
    inputs = [tensor[:1].clone().requires_grad_() for tensor in draw(-0.5, 5, torch.float64, groups=1, heads=2)]
    assert torch.autograd.gradcheck(lambda *tensors: ssd_chunked(*tensors, 2), inputs)


def test_autocast_leaves_the_loops_arithmetic_in_float32() -> None:
    x, log_decay, b, c, start = draw("mixed", 40, torch.float32)
    low = [tensor.bfloat16() for tensor in (x, b, c)]
    expected, last = ssd_loop(low[0].float(), log_decay, low[1].float(), low[2].float(), start)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = ssd(low[0], log_decay, low[1], low[2], start, Execution("loop"))
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(y, expected.bfloat16(), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("log_decay", [*GRID, -0.9, -1.2])
def test_products_in_bfloat16_lose_little_more_than_their_operands(log_decay: float | str, groups: int) -> None:
    """x, b and c in bfloat16: at most eight times the error of the loop whose results are rounded to bfloat16.

    The measure is the error's norm over the exact result's, and the yardstick at least bfloat16's own 2^-9.
    """
    low = [
        tensor.bfloat16() if i in (0, 2, 3) else tensor
        for i, tensor in enumerate(draw(log_decay, 83, torch.float32, groups))
    ]
    exact = run(ssd_loop, [tensor.double() for tensor in low])

    def relative(results: Sequence[Tensor]) -> list[float]:
        return [((a.double() - b).norm() / b.norm()).item() for a, b in zip(results, exact, strict=True)]

    rounded = relative([result.bfloat16() for result in run(ssd_loop, low)])
    for chunk in (16, 64):
        with torch.autocast("cpu", torch.bfloat16):
            results = run(ssd_chunked, low, chunk)
        assert (results[0].dtype, results[1].dtype) == (torch.bfloat16, torch.float32)
        found = relative(results)
        assert all(error <= 8 * max(2**-9, one) for error, one in zip(found, rounded, strict=True)), (found, rounded)


def test_the_form_that_ran_is_recorded() -> None:
    x, log_decay, b, c, _ = draw(-1.0, 8, torch.float32)
    with recorded_forms() as forms:
        ssd(x, log_decay, b, c, None, Execution("chunked", 4))
    assert forms == {"ssd": {"chunked"}}
    with recorded_forms() as forms:
        ssd(x[:, :1], log_decay[:, :1], b[:, :1], c[:, :1], None, Execution("chunked", 4))
        ssd(x, log_decay, b, c, None, Execution("loop"))
    assert forms == {"ssd": {"loop"}}


@pytest.mark.parametrize(
    ("tokens", "execution"),
    [(37, Execution("chunked", 16)), (64, Execution()), (5, Execution()), (1, Execution()), (5, Execution("loop"))],
    ids=str,
)
def test_flops_are_those_torch_counts(tokens: int, execution: Execution) -> None:
    """Where no head is hard in a chunk."""
    with FlopCounterMode(display=False) as counter:
        ssd(*(tensor[:1] for tensor in draw(-0.5, tokens, torch.float64)), execution)
    counted, uncounted = op.ssd_flops(tokens, 4, 5, 6, 2, execution)
    assert counted == counter.get_total_flops()
    assert all(flops > 0 for flops in uncounted.values())


def test_hard_heads_take_more_and_declared_flops_leave_that_out() -> None:
    """Three chunks of 13 tokens, in each of which two of four heads of width 5, with states of width 6, are hard."""
    inputs = [tensor[:1] for tensor in draw(-0.5, 37, torch.float64)]
    inputs[1][:, :, 1:3] = -5
    execution = Execution("chunked", 16)
    with FlopCounterMode(display=False) as counter:
        ssd(*inputs, execution)
    declared, _ = op.ssd_flops(37, 4, 5, 6, 2, execution)
    hard = 3 * 2 * (2 * 13**2 * (6 + 5) + 2 * 13 * 6 * 5)
    assert counter.get_total_flops() == declared + hard
    assert counted_flops(lambda x: ssd(x, *inputs[1:], execution), inputs[0]) == declared


def test_extreme_decays_are_exact_within_a_long_chunk() -> None:
    """What a difference of float32 sums would lose: a weak decay after many strong ones."""
    x, log_decay, b, c, start = draw(-60.0, 64, torch.float32)
    log_decay[:, 60:] = -1e-6
    oracle, _ = ssd_loop(x.double(), log_decay.double(), b.double(), c.double(), start.double())
    y, _ = ssd_chunked(x, log_decay, b, c, start, 64)
    assert ((y - oracle).abs().max() / oracle.abs().max()).item() < 2e-6
    sums = log_decay.cumsum(1)
    naive = (sums[:, 63] - sums[:, 60]).exp()
    assert (naive - (-3e-6 * torch.ones_like(naive)).exp()).abs().max() > 2e-6
