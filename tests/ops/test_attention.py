"""Causal attention: the fused form answers to the loop, with and without a cache."""

import pytest
import torch
from torch import Tensor

from assay.ops.attention import AttentionState, causal_attention
from assay.ops.execution import Execution, recorded_forms


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
