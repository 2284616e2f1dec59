"""Causal and sliding attention: the fused forms answer to the loop, with and without a cache."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from assay.layers.randomness import Dropout
from assay.ops import attention as op
from assay.ops import attention_blocks
from assay.ops.attention_blocks import attention_in_blocks
from assay.ops.attention_state import AttentionState, WindowState
from assay.ops.execution import Execution, Form, recorded_forms

# Called with unpacked operands, whose number a type checker does not know.
causal_attention: Callable[..., tuple[Tensor, AttentionState]] = op.causal_attention
sliding_attention: Callable[..., tuple[Tensor, WindowState]] = op.sliding_attention


def draw(T: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    q, k = (torch.randn(2, T, 3, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    return q, k, torch.randn(2, T, 3, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("before", [0, 1, 9])
@pytest.mark.parametrize("T", [1, 2, 7, 33])
def test_fused_equals_loop(T: int, before: int) -> None:
    generator = torch.Generator().manual_seed(T)
    state = None
    if before:
        _, k, v = draw(before, generator)
        state = AttentionState(k, v, before)
    inputs = [x.requires_grad_() for x in draw(T, generator)]
    results = []
    for form in ("loop", "chunked"):
        with recorded_forms() as ran:
            y, after = causal_attention(*inputs, state, Execution(form))
        assert ran == {"attention": {form}}
        assert after.length == before + T
        results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    for fused, loop in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(fused, loop, rtol=1e-9, atol=1e-12)


def test_the_mask_is_not_one_off() -> None:
    """With equal scores, position t returns the mean of exactly the values 0 ... t."""
    v = torch.arange(6, dtype=torch.float64).view(1, 6, 1, 1)
    q = k = torch.zeros(1, 6, 1, 4, dtype=torch.float64)
    for form in ("loop", "chunked"):
        y, _ = causal_attention(q, k, v, None, Execution(form))
        torch.testing.assert_close(y.flatten(), torch.tensor([0, 0.5, 1, 1.5, 2, 2.5], dtype=torch.float64))


def test_a_cache_with_capacity_is_filled_in_place_and_then_grows() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = draw(5, generator)
    whole, _ = causal_attention(q, k, v, None, Execution())
    state = AttentionState(k.new_zeros(2, 3, 3, 8), v.new_zeros(2, 3, 3, 5), 0)
    with torch.no_grad():
        parts = []
        for t in range(5):
            buffer = state.keys
            y, state = causal_attention(q[:, t : t + 1], k[:, t : t + 1], v[:, t : t + 1], state, Execution())
            assert (state.keys is buffer) == (t < 3)
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def grouped(T: int, heads: int, groups: int, seed: int = 0) -> list[Tensor]:
    """q, k, v of 2 rows that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((heads, 8), (groups, 8), (groups, 5))
    return [torch.randn(2, T, *shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def by_definition(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Written with loops over everything: token t sees tokens t - window + 1 ... t, head h reads head h G // H."""
    y = q.new_zeros(*q.shape[:3], v.shape[-1])
    for b, t, h in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        seen = range(max(0, t - window + 1), t + 1)
        group = h * k.shape[2] // q.shape[2]
        scores = torch.stack([q[b, t, h].dot(k[b, s, group]) / 8**0.5 for s in seen])
        y[b, t, h] = sum(w * v[b, s, group] for w, s in zip(scores.softmax(0), seen, strict=True))
    return y


@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_forms_by_definition(form: Form) -> None:
    q, k, v = grouped(9, heads=4, groups=2)
    for window in (1, 3, 4, 20):
        y, state = sliding_attention(q, k, v, None, window, Execution(form, 2))
        torch.testing.assert_close(y, by_definition(q, k, v, window))
        assert state.length == 9
        assert torch.equal(state.keys, k[:, max(0, 10 - window) :])
    y, _ = causal_attention(q, k, v, None, Execution(form))
    torch.testing.assert_close(y, by_definition(q, k, v, 9))


@pytest.mark.parametrize("in_blocks", [True, False])
@pytest.mark.parametrize("window", [1, 2, 7, 16, 40])
@pytest.mark.parametrize("T", [1, 6, 7, 16, 37, 53])
def test_banded_equals_loop(T: int, window: int, in_blocks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """T less than, equal to and several times the window; blocks of the window and longer ones; gradients too."""
    if not in_blocks:  # as on a device that has none
        monkeypatch.setattr(op, "_has_blocks", lambda _: False)
    inputs = grouped(T, heads=4, groups=2, seed=T)
    weight = torch.randn(2, T, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for execution in (Execution("loop"), Execution("chunked", 1), Execution("chunked", 16)):
        with recorded_forms() as ran:
            y, state = sliding_attention(*inputs, None, window, execution)
        assert ran == {"sliding_attention": {execution.form}}
        results.append([y, *state[:2], *torch.autograd.grad((y * weight).sum(), inputs)])
    for other in results[1:]:
        for fast, loop in zip(other, results[0], strict=True):
            torch.testing.assert_close(fast, loop, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["loop", "chunked"])
@pytest.mark.parametrize("window", [1, 5, 12])
def test_a_carried_window_is_one_call(window: int, form: Form) -> None:
    """Through odd pieces and single tokens, with gradients through the state; it never holds more than it needs."""
    inputs = grouped(41, heads=2, groups=1)
    whole, _ = sliding_attention(*inputs, None, window, Execution("loop"))
    state, parts = None, []
    for piece in zip(*(x.split([3, 1, 1, 17, 2, 1, 16], 1) for x in inputs), strict=True):
        y, state = sliding_attention(*piece, state, window, Execution(form, 4))
        parts.append(y)
        assert state.keys.shape[1] == min(state.length, window - 1)
        assert state.keys.untyped_storage().nbytes() == state.keys.nbytes
    pieces = torch.cat(parts, 1)
    torch.testing.assert_close(pieces, whole, rtol=1e-9, atol=1e-12)
    expected, found = (torch.autograd.grad(y.square().sum(), inputs) for y in (whole, pieces))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_an_empty_window_is_no_window() -> None:
    q, k, v = grouped(5, heads=2, groups=2)
    empty = WindowState(k[:, :0], v[:, :0], 0)
    for execution in (Execution("loop"), Execution()):
        started, _ = sliding_attention(q, k, v, empty, 3, execution)
        torch.testing.assert_close(started, sliding_attention(q, k, v, None, 3, execution)[0])


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Inside the block, remembers as `numel` the size of the largest tensor that an operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        sizes = [t.numel() for t in torch.utils._pytree.tree_leaves(result) if torch.is_tensor(t)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize("form", [op.sliding_attention_chunked, op.sliding_attention_banded])
def test_memory_of_the_band_grows_with_the_window_not_the_sequence(form: Callable[..., Tensor]) -> None:
    """The largest tensor that 1024 tokens with a window of 32 need is far below their 1024 x 1024 scores."""
    q, k, v = (torch.zeros(1, 1024, 1, 8) for _ in range(3))
    for drop in (None, Dropout(0.5)):
        with LargestTensor() as largest:
            form(q, k, v, 32, 32, drop)
        assert 1024 * 8 <= largest.numel <= 1024 * 2 * 32


@pytest.mark.parametrize("before", [0, 4])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_dropped_weights_keep_their_mean_and_their_mask(form: Form, window: int | None, before: int) -> None:
    """Each output is a sum over a random part of the keys seen, twice as heavy at p = 1/2: the mean is the output."""
    q, k, v = (x.detach() for x in grouped(6, heads=2, groups=1))
    dropout, keys, values = Dropout(0.5), k[:, :before], v[:, :before]

    def attend(drop: Dropout | None) -> Tensor:
        if window is None:
            return causal_attention(q, k, v, AttentionState(keys, values, before), Execution(form), drop)[0]
        state = WindowState(keys[:, -2:], values[:, -2:], before)
        return sliding_attention(q, k, v, state, window, Execution(form, 4), drop)[0]

    draws = torch.stack([attend(dropout) for _ in range(100)])
    assert not torch.equal(draws[0], draws[1])
    error = (draws.mean(0) - attend(None)).abs()
    # 240 outputs: one beyond 6 standard errors has odds of about one in a million.
    assert (error <= 6 * draws.std(0) / 10 + 1e-12).all()
    dropout.calls.zero_()
    assert torch.equal(attend(dropout), draws[0])
    torch.testing.assert_close(attend(dropout.eval()), attend(None), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("window", [None, 1, 5, 30])
@pytest.mark.parametrize(("tokens", "keys"), [(2, 2), (33, 33), (16, 16), (7, 20), (20, 23)])
@pytest.mark.parametrize("kept", [True, False])
def test_blocks_equal_the_loop(
    kept: bool, tokens: int, keys: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the weights kept or formed again for the gradient, with a state and without, over groups of heads."""
    monkeypatch.setattr(attention_blocks, "KEPT_QUERIES", 512 if kept else 0)
    k, v = grouped(keys, heads=4, groups=2)[1:]
    q = grouped(tokens, heads=4, groups=2, seed=1)[0]
    forms = (attention_in_blocks(q, k, v, 8, window), op.causal_attention_loop(q, k, v, window))
    results = [[y, *torch.autograd.grad(y.sin().sum(), (q, k, v))] for y in forms]
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


def test_long_contexts_take_the_fused_form_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "FUSED_FROM", {torch.float64: 12})
    inputs = grouped(12, heads=4, groups=2)
    results = []
    for form in ("chunked", "loop"):
        y, _ = causal_attention(*inputs, None, Execution(form, 2))
        results.append([y, *torch.autograd.grad(y.sin().sum(), inputs)])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


ROUNDINGS = 4
"""Scores, weights, outputs and, in a gradient, the scores' slopes: each is rounded once."""


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("tokens", [64, 256, 700])
def test_bfloat16_errs_by_its_roundings_alone(tokens: int, window: int | None) -> None:
    """Against the loop in float64 on the same numbers: the root mean square of the error, relative, at most 4 x 2^-8.

    The roundings are of relative size 2^-9 at most; a score of size s moves a weight by s times that, and scores of
    random unit queries and keys have sizes about 1.
    """
    generator = torch.Generator().manual_seed(tokens)
    shapes = ((4, 36), (2, 36), (2, 36))
    rough = [torch.randn(1, tokens, *shape, generator=generator).bfloat16().requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in rough]
    slope = torch.randn(1, tokens, 4, 36, generator=generator).bfloat16()
    y = attention_in_blocks(*rough, 128, window)
    assert y.dtype == torch.bfloat16
    expected = op.causal_attention_loop(*exact, window)
    found = [y, *torch.autograd.grad(y, rough, slope)]
    wanted = [expected, *torch.autograd.grad(expected, exact, slope.double())]
    for a, b in zip(found, wanted, strict=True):
        assert (a.double() - b).square().mean().sqrt() <= ROUNDINGS * 2**-8 * b.square().mean().sqrt()


def test_memory_of_blocks_is_linear_in_the_context() -> None:
    """Forward and backward of 1,024 tokens hold no tensor beyond a block's 64 x 1,024 scores, two heads each."""
    q, k, v = (torch.zeros(1, 1024, 2, 8, requires_grad=True) for _ in range(3))
    with LargestTensor() as largest:
        attention_in_blocks(q, k, v, 64).sum().backward()
    assert largest.numel == 2 * 64 * 1024


@pytest.mark.parametrize("window", [None, 5])
def test_dropped_weights_formed_a_second_time_are_the_same(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and gradients with masks alone kept are those with all weights kept."""
    results = []
    for kept in (512, 4):
        monkeypatch.setattr(attention_blocks, "KEPT_QUERIES", kept)
        inputs = [x.requires_grad_() for x in grouped(20, heads=4, groups=2)]
        y = attention_blocks.dropped_attention_in_blocks(*inputs, 8, window, Dropout(0.3))
        results.append([y, *torch.autograd.grad(y.sin().sum(), inputs)])
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)
