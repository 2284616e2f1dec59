"""The chunked RWKV-6 recurrence answers to the loop, and the loop to the sum the paper writes, at every decay."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from assay.audit.checks.accounting import counted_flops
from assay.errors import RequestError
from assay.ops.execution import Execution, Form, recorded_forms
from assay.ops.wkv6 import wkv6, wkv6_chunked, wkv6_flops, wkv6_loop
from assay.ops.wkv6_chunks import Inside, inside_chunks, inside_gradients
from assay.ops.wkv_chunks import halved, halved_gradients

DECAYS = (-1e-6, -0.05, -1.0, -5.0, -20.0, -60.0)
NEARLY_EXTREME = [(-2.4,), (-1.2,), (-0.6,), (*[-1e-6] * 30, -35.0)]
"""Decays just inside what chunks of 16, 32 and 64 still factor, and lone steps of nearly all that is allowed."""
GRID = [*((decay,) for decay in DECAYS), DECAYS, *NEARLY_EXTREME]
NAMES = ("y", "state", "r", "k", "v", "log_decay", "bonus", "initial state")
Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Results = tuple[Tensor, ...]
Run = Callable[..., tuple[Tensor, Tensor]]


@functools.cache
def operands(decays: tuple[float, ...], T: int, B: int = 2, H: int = 2, K: int = 6, V: int = 5) -> Operands:
    """r, k, v, log_decay, bonus, state in float64; each log decay is drawn from `decays`."""
    generator = torch.Generator().manual_seed(T)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    choice = torch.randint(len(decays), (B, T, H, K), generator=generator)
    log_decay = torch.tensor(decays, dtype=torch.float64)[choice]
    return (
        normal(B, T, H, K),
        normal(B, T, H, K),
        normal(B, T, H, V),
        log_decay,
        normal(H, K),
        normal(B, H, K, V),
    )


def forward_and_gradients(run: Run, inputs: Operands, dtype: torch.dtype) -> Results:
    """y, final state and the gradients of a random weighting of both, in the order of NAMES."""
    leaves = tuple(x.detach().to(dtype).requires_grad_() for x in inputs)
    y, state = run(*leaves)
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(dtype) for x in (y, state)]
    return (y.detach(), state.detach(), *torch.autograd.grad((y, state), leaves, weights))


@functools.cache
def oracle(decays: tuple[float, ...], T: int) -> Results:
    return forward_and_gradients(wkv6_loop, operands(decays, T), torch.float64)


def errors(results: Results, expected: Results) -> dict[str, float]:
    """The largest error of each result, relative to its largest expected value."""
    return {
        name: float((x.double() - e).abs().max() / e.abs().max().clamp_min(1e-300))
        for name, x, e in zip(NAMES, results, expected, strict=True)
    }


def chunked(chunk_length: int) -> Run:
    return functools.partial(wkv6_chunked, chunk_length=chunk_length)


def test_loop_is_the_papers_sum() -> None:
    """y_t = r_t^T (diag(u) k_t v_t^T + sum_s diag(prod_{s<i<t} w_i) k_s v_s^T + diag(prod_{i<t} w_i) S_0)."""
    r, k, v, log_decay, u, initial = (x[0] if x.dim() > 2 else x for x in operands(DECAYS, 9, B=1))
    w = log_decay.exp()
    y, state = wkv6_loop(*operands(DECAYS, 9, B=1))
    for t in range(10):
        memory = w[:t].prod(0)[..., None] * initial
        for s in range(t):
            memory = memory + (w[s + 1 : t].prod(0) * k[s])[..., None] * v[s, :, None]
        if t == 9:
            torch.testing.assert_close(state[0], memory, rtol=1e-12, atol=1e-12)
        else:
            memory = memory + (u * k[t])[..., None] * v[t, :, None]
            torch.testing.assert_close(y[0, t], (r[t][..., None] * memory).sum(-2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk_length", [16, 32, 64])
@pytest.mark.parametrize("decays", GRID, ids=str)
def test_chunked_equals_loop_float64(decays: tuple[float, ...], chunk_length: int) -> None:
    results = forward_and_gradients(chunked(chunk_length), operands(decays, 83), torch.float64)
    found = errors(results, oracle(decays, 83))
    assert max(found.values()) < 1e-9, found


@pytest.mark.parametrize("decays", GRID, ids=str)
def test_chunked_is_as_exact_as_the_loop_in_float32(decays: tuple[float, ...]) -> None:
    expected = oracle(decays, 83)
    allowed = errors(forward_and_gradients(wkv6_loop, operands(decays, 83), torch.float32), expected)
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
    r, k, v, log_decay, bonus, state = operands((-0.05,), 64, B=1)
    log_decay = log_decay.clone()
    log_decay[:, 32:, 1] = -20.0
    chunks = [
        x.to(dtype).unflatten(1, (4, 16)).permute(1, 0, 3, 2, 4).flatten(0, 2).contiguous() for x in (r, k, log_decay)
    ]
    _, decays = inside_chunks(*chunks)
    assert decays.extreme().tolist() == [5, 7]
    inputs = (r, k, v, log_decay, bonus, state)
    expected = forward_and_gradients(wkv6_loop, inputs, torch.float64)
    found = errors(forward_and_gradients(chunked(16), inputs, dtype), expected)
    assert max(found.values()) < (1e-4 if dtype == torch.float32 else 1e-9), found


def test_both_forms_inside_a_chunk_agree() -> None:
    whole = operands((-1e-6, -0.05, -1.0), 32, B=5, H=1)
    r, k, log_decay = (whole[i][:, :, 0].contiguous() for i in (0, 1, 3))
    inside, decays = inside_chunks(r, k, log_decay)
    assert len(decays.extreme()) == 0
    exact = halved(r, k, log_decay.exp())
    torch.testing.assert_close(tuple(inside), tuple(exact), rtol=1e-11, atol=1e-11)
    d = Inside(inside.scores.cos().tril(-1), r.cos(), r.sin())
    gradients = inside_gradients(r, k, log_decay, inside, decays, d)
    expected = halved_gradients(r, k, log_decay.exp(), *d)
    torch.testing.assert_close(gradients, expected, rtol=1e-11, atol=1e-11)


def test_gradcheck() -> None:
    inputs = tuple(x.clone().requires_grad_() for x in operands((-0.05, -1.0), 7, B=1, K=2, V=3))
    assert torch.autograd.gradcheck(chunked(4), inputs)


@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_segments_equal_the_whole(form: Form) -> None:
    r, k, v, log_decay, bonus, state = operands(DECAYS, 83)
    execution = Execution(form=form, chunk_length=16)
    whole, final = wkv6(r, k, v, log_decay, bonus, state, execution)
    parts = []
    for begin, end in ((0, 1), (1, 2), (2, 40), (40, 72), (72, 83)):
        here = slice(begin, end)
        part, state = wkv6(r[:, here], k[:, here], v[:, here], log_decay[:, here], bonus, state, execution)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state, final, rtol=1e-9, atol=1e-9)


def test_no_state_is_a_state_of_zeros() -> None:
    r, k, v, log_decay, bonus, state = operands(DECAYS, 17)
    runs: tuple[Run, ...] = (wkv6_loop, chunked(16))
    for run in runs:
        without = run(r, k, v, log_decay, bonus, None)
        for a, b in zip(without, run(r, k, v, log_decay, bonus, torch.zeros_like(state)), strict=True):
            assert torch.equal(a, b)


def test_the_form_that_ran_is_recorded() -> None:
    r, k, v, log_decay, bonus, state = operands(DECAYS, 17)
    for T, execution, form in (
        (17, Execution("loop"), "loop"),
        (17, Execution("chunked"), "chunked"),
        (1, Execution("chunked"), "loop"),
    ):
        with recorded_forms() as forms:
            wkv6(r[:, :T], k[:, :T], v[:, :T], log_decay[:, :T], bonus, state, execution)
        assert forms == {"wkv6": {form}}


def test_execution_takes_any_chunk_length() -> None:
    """The dispatcher rounds to a power of two; asked directly, another length is an error."""
    inputs = operands(DECAYS, 33)
    expected, _ = wkv6_loop(*inputs)
    for chunk_length in (1, 3, 100):
        y, _ = wkv6(*inputs, Execution("chunked", chunk_length))
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(RequestError, match="chunk_length: 24 given"):
        wkv6_chunked(*inputs, 24)


@pytest.mark.parametrize("run", [wkv6_loop, chunked(16)], ids=["loop", "chunked"])
def test_autocast_changes_nothing(run: Run) -> None:
    """Everything of the recurrence stays in float32, backward too; bfloat16 values come back in bfloat16."""
    inputs = operands(DECAYS, 33)
    expected = forward_and_gradients(run, inputs, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        results = forward_and_gradients(run, inputs, torch.float32)
        r, k, v, log_decay, bonus, state = (x.float() for x in inputs)
        y, final = run(r.bfloat16(), k.bfloat16(), v.bfloat16(), log_decay, bonus, state)
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
    """Where no chunk is halved."""
    with FlopCounterMode(display=False) as counter:
        wkv6(*operands((-0.05,), T, B=1), execution)
    counted, uncounted = wkv6_flops(T, 2, 6, 5, execution)
    assert counted == counter.get_total_flops()
    assert all(flops > 0 for flops in uncounted.values())


def test_halved_chunks_take_more_and_declared_flops_leave_that_out() -> None:
    inputs, execution = operands((-20.0,), 37, B=1), Execution("chunked", 16)
    with FlopCounterMode(display=False) as counter:
        wkv6(*inputs, execution)
    declared, _ = wkv6_flops(37, 2, 6, 5, execution)
    assert counter.get_total_flops() > declared
    assert counted_flops(lambda r: wkv6(r, *inputs[1:], execution), inputs[0]) == declared
