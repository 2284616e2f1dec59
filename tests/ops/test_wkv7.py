"""The chunked RWKV-7 recurrence answers to the loop at every decay, and the loop to the paper's product of matrices."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from assay.audit.checks.accounting import counted_flops
from assay.errors import RequestError
from assay.ops import wkv7 as op
from assay.ops.execution import Execution, Form, recorded_forms
from assay.ops.wkv7 import wkv7_flops, wkv7_loop
from assay.ops.wkv7_chunks import inside_chunks

DECAYS = (-1e-6, -0.05, -1.0, -5.0, -20.0, -60.0)
NEARLY_EXTREME = [(-2.4,), (-1.2,), (-0.6,), (*[-1e-6] * 30, -35.0)]
"""Decays just inside what chunks of 16, 32 and 64 still factor, and lone steps of nearly all that is allowed."""
GRID = [*((decay,) for decay in DECAYS), DECAYS, *NEARLY_EXTREME]
NAMES = ("y", "state", "r", "log_decay", "k", "v", "a", "b", "initial state")
Operands = tuple[Tensor, ...]
Results = tuple[Tensor, ...]
Run = Callable[..., tuple[Tensor, Tensor]]
# Called with unpacked operands, whose number a type checker does not know.
wkv7: Run = op.wkv7
wkv7_chunked: Run = op.wkv7_chunked


@functools.cache
def operands(decays: tuple[float, ...], T: int, B: int = 2, H: int = 2, K: int = 6, V: int = 5) -> Operands:
    """r, log_decay, k, v, a, b, state in float64; decays drawn from `decays`, a and b as the layer makes them."""
    generator = torch.Generator().manual_seed(T)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    choice = torch.randint(len(decays), (B, T, H, K), generator=generator)
    log_decay = torch.tensor(decays, dtype=torch.float64)[choice]
    removal = F.normalize(normal(B, T, H, K), dim=-1)
    rate = torch.sigmoid(2 * normal(B, T, H, K))
    r, k, v, state = normal(B, T, H, K), normal(B, T, H, K), normal(B, T, H, V), normal(B, H, K, V)
    return r, log_decay, k, v, -removal, removal * rate, state


def forward_and_gradients(run: Run, inputs: Operands, dtype: torch.dtype) -> Results:
    """y, final state and the gradients of a random weighting of both, in the order of NAMES."""
    leaves = tuple(x.detach().to(dtype).requires_grad_() for x in inputs)
    y, state = run(*leaves)
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(dtype) for x in (y, state)]
    return (y.detach(), state.detach(), *torch.autograd.grad((y, state), leaves, weights))


@functools.cache
def oracle(decays: tuple[float, ...], T: int) -> Results:
    return forward_and_gradients(wkv7_loop, operands(decays, T), torch.float64)


def errors(results: Results, expected: Results) -> dict[str, float]:
    """The largest error of each result, relative to its largest expected value."""
    return {
        name: float((x.double() - e).abs().max() / e.abs().max().clamp_min(1e-300))
        for name, x, e in zip(NAMES, results, expected, strict=True)
    }


def chunked(chunk_length: int) -> Run:
    return functools.partial(wkv7_chunked, chunk_length=chunk_length)


def test_loop_is_the_papers_product() -> None:
    """Equation 16 for the transpose: S_t = S_{t-1} (diag(w_t) + a_t b_t^T) + v_t k_t^T, y_t = S_t r_t."""
    inputs = operands(DECAYS, 9, B=1, H=1)
    y, final = wkv7_loop(*inputs)
    r, log_decay, k, v, a, b = (x[0, :, 0] for x in inputs[:-1])
    state = inputs[-1][0, 0].mT
    for t in range(9):
        transition = torch.diag(log_decay[t].exp()) + torch.outer(a[t], b[t])
        state = state @ transition + torch.outer(v[t], k[t])
        torch.testing.assert_close(y[0, t, 0], state @ r[t], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(final[0, 0], state.mT, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("decays", GRID, ids=str)
def test_chunked_equals_loop_float64(decays: tuple[float, ...]) -> None:
    for chunk_length in (16, 64):
        results = forward_and_gradients(chunked(chunk_length), operands(decays, 83), torch.float64)
        found = errors(results, oracle(decays, 83))
        assert max(found.values()) < 1e-9, (chunk_length, found)


@pytest.mark.parametrize("decays", GRID, ids=str)
def test_chunked_is_as_exact_as_the_loop_in_float32(decays: tuple[float, ...]) -> None:
    expected = oracle(decays, 83)
    allowed = errors(forward_and_gradients(wkv7_loop, operands(decays, 83), torch.float32), expected)
    for chunk_length in (16, 32, 64):
        results = forward_and_gradients(chunked(chunk_length), operands(decays, 83), torch.float32)
        assert all(x.isfinite().all() for x in results)
        found = errors(results, expected)
        assert all(found[name] <= max(1e-4, 3 * allowed[name]) for name in NAMES), (found, allowed)


@pytest.mark.parametrize("T", [1, 2, 5, 15, 16, 17, 33])
def test_any_length(T: int) -> None:
    for chunk_length in (1, 16, 64):
        results = forward_and_gradients(chunked(chunk_length), operands(DECAYS, T), torch.float64)
        found = errors(results, oracle(DECAYS, T))
        assert max(found.values()) < 1e-9, (chunk_length, found)


def test_one_key_removed_and_written_at_every_token() -> None:
    """The stiffest system there is: every token erases all that the one before wrote, at no decay."""
    r, _, _, v, a, _, state = (x.clone() for x in operands((0.0,), 100))
    a[:] = a[:, :1]
    inputs = (r, torch.zeros_like(r), -a, v, a, -a, state)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        expected = forward_and_gradients(wkv7_loop, inputs, torch.float64)
        found = errors(forward_and_gradients(chunked(64), inputs, dtype), expected)
        assert max(found.values()) < tolerance, found


def test_decays_that_underflow_and_decays_of_one() -> None:
    """exp(-1e4) is zero in every type; zero times anything must stay zero, in gradients too."""
    decays = (-1e4, 0.0, -0.5)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        results = forward_and_gradients(chunked(16), operands(decays, 40), dtype)
        found = errors(results, oracle(decays, 40))
        assert max(found.values()) < tolerance, found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_extreme_chunks_are_halved(dtype: torch.dtype) -> None:
    """One head of two decays hard in its second half: those chunks alone leave the factored form, values stay right."""
    inputs = tuple(x.clone() for x in operands((-0.05,), 64, B=1))
    inputs[1][:, 32:, 1] = -20.0
    rows, keys, logs = (
        torch.cat([x.to(dtype).unflatten(1, (4, 16)).permute(1, 0, 3, 2, 4).flatten(0, 2) for x in group], 1)
        for group in ((inputs[4], inputs[0]), (inputs[5], inputs[2]), (inputs[1],))
    )
    assert inside_chunks(rows, keys, logs)[2].extreme().tolist() == [5, 7]
    expected = forward_and_gradients(wkv7_loop, inputs, torch.float64)
    found = errors(forward_and_gradients(chunked(16), inputs, dtype), expected)
    assert max(found.values()) < (1e-4 if dtype == torch.float32 else 1e-9), found


def test_gradcheck() -> None:
    inputs = tuple(x.clone().requires_grad_() for x in operands((-0.05, -1.0), 6, B=1, H=1, K=2, V=3))
    assert torch.autograd.gradcheck(chunked(4), inputs)


@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_segments_equal_the_whole(form: Form) -> None:
    *sequences, state = operands(DECAYS, 83)
    execution = Execution(form=form, chunk_length=16)
    whole, final = wkv7(*sequences, state, execution)
    parts = []
    for begin, end in ((0, 1), (1, 2), (2, 40), (40, 72), (72, 83)):
        part, state = wkv7(*(x[:, begin:end] for x in sequences), state, execution)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state, final, rtol=1e-9, atol=1e-9)


def test_no_state_is_a_state_of_zeros() -> None:
    *sequences, state = operands(DECAYS, 17)
    runs: tuple[Run, ...] = (wkv7_loop, chunked(16))
    for run in runs:
        for a, b in zip(run(*sequences, None), run(*sequences, torch.zeros_like(state)), strict=True):
            assert torch.equal(a, b)


def test_the_form_that_ran_is_recorded() -> None:
    *sequences, state = operands(DECAYS, 17)
    for T, execution, form in (
        (17, Execution("loop"), "loop"),
        (17, Execution("chunked"), "chunked"),
        (1, Execution("chunked"), "loop"),
    ):
        with recorded_forms() as forms:
            wkv7(*(x[:, :T] for x in sequences), state, execution)
        assert forms == {"wkv7": {form}}


def test_execution_takes_any_chunk_length() -> None:
    """The dispatcher rounds to a power of two; asked directly, another length is an error."""
    inputs = operands(DECAYS, 33)
    expected, _ = wkv7_loop(*inputs)
    for chunk_length in (1, 3, 100):
        y, _ = wkv7(*inputs, Execution("chunked", chunk_length))
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(RequestError, match="chunk_length: 24 given"):
        wkv7_chunked(*inputs, 24)


@pytest.mark.parametrize("run", [wkv7_loop, chunked(16)], ids=["loop", "chunked"])
def test_autocast_changes_nothing(run: Run) -> None:
    """Everything of the recurrence stays in float32, backward too; bfloat16 values come back in bfloat16."""
    inputs = operands(DECAYS, 33)
    expected = forward_and_gradients(run, inputs, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        results = forward_and_gradients(run, inputs, torch.float32)
        r, log_decay, k, v, a, b, state = (x.float() for x in inputs)
        y, final = run(r.bfloat16(), log_decay, k.bfloat16(), v.bfloat16(), a, b, state)
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))
    assert (y.dtype, final.dtype) == (torch.bfloat16, torch.float32)


def test_inputs_are_left_as_they_were() -> None:
    """The chunked form works in place, on copies: also where a layout needs no copy (one head, one chunk)."""
    inputs = operands(DECAYS, 16, B=1, H=1)
    before = [x.clone() for x in inputs]
    forward_and_gradients(chunked(16), inputs, torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True))


@pytest.mark.parametrize(
    ("T", "execution"),
    [(37, Execution("chunked", 16)), (64, Execution()), (5, Execution()), (1, Execution()), (5, Execution("loop"))],
    ids=str,
)
def test_flops_are_those_torch_counts(T: int, execution: Execution) -> None:
    with FlopCounterMode(display=False) as counter:
        wkv7(*operands((-0.05,), T, B=1), execution)
    counted, uncounted = wkv7_flops(T, 2, 6, 5, execution)
    assert counted == counter.get_total_flops()
    assert all(flops > 0 for flops in uncounted.values())


def test_halved_chunks_take_more_and_declared_flops_leave_that_out() -> None:
    inputs, execution = operands((-20.0,), 37, B=1), Execution("chunked", 16)
    with FlopCounterMode(display=False) as counter:
        wkv7(*inputs, execution)
    declared, _ = wkv7_flops(37, 2, 6, 5, execution)
    assert counter.get_total_flops() > declared
    assert counted_flops(lambda r: wkv7(r, *inputs[1:], execution), inputs[0]) == declared


def test_loop_is_that_of_flash_linear_attention() -> None:
    """Its naive function, which puts heads before tokens and divides queries by sqrt(K)."""
    naive = pytest.importorskip("fla.ops.generalized_delta_rule.dplr.naive").dplr_recurrence
    r, log_decay, k, v, a, b, state = (x.float() for x in operands(DECAYS[:3], 37, K=8, V=8))
    y, final = wkv7_loop(r, log_decay, k, v, a, b, state)
    parts = (x.transpose(1, 2) for x in (r * 8**0.5, k, v, a, b, log_decay))
    expected, last = naive(*parts, initial_state=state)
    torch.testing.assert_close(y, expected.transpose(1, 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(final, last, rtol=1e-4, atol=1e-4)
