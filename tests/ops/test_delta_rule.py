"""The chunked delta rule against the loop: forward, every gradient and the final state, over all decays."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from assay.ops import delta_rule as op
from assay.ops.delta_rule import ErrorTaken, delta_rule_flops, longest_chunk
from assay.ops.execution import Execution, Form, recorded_forms

LOG_DECAYS = (-1e-6, -0.05, -1.0, -5.0, -20.0, -60.0)
GRID = [*LOG_DECAYS, "mixed"]
Rule = Callable[..., tuple[Tensor, Tensor]]
ERRORS: list[ErrorTaken] = ["after", "before"]
# Called with unpacked operands, whose number a type checker does not know.
delta_rule: Rule = op.delta_rule
delta_rule_loop: Rule = op.delta_rule_loop
delta_rule_chunked: Rule = op.delta_rule_chunked


def draw(
    log_decay: float | str, tokens: int, dtype: torch.dtype, strongest: float = 2.0, widths: tuple[int, int] = (6, 5)
) -> list[Tensor]:
    """q, k of length 1, v, beta in 0...strongest, log_decay, state; "mixed" draws each log-decay from the grid."""
    generator = torch.Generator().manual_seed(0)
    B, H, (K, V) = 2, 3, widths

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if isinstance(log_decay, str):
        chosen = torch.randint(len(LOG_DECAYS), (B, tokens, H), generator=generator)
        decays = torch.tensor(LOG_DECAYS, dtype=torch.float64)[chosen]
    else:
        decays = torch.full((B, tokens, H), log_decay, dtype=torch.float64)
    k = torch.nn.functional.normalize(normal(B, tokens, H, K), dim=-1)
    beta = strongest * torch.sigmoid(2 * normal(B, tokens, H))
    inputs = [normal(B, tokens, H, K), k, normal(B, tokens, H, V), beta, decays, normal(B, H, K, V)]
    return [tensor.to(dtype) for tensor in inputs]


def run(rule: Rule, inputs: Sequence[Tensor], *arguments: object) -> list[Tensor]:
    """y, the final state, and the gradients of all six inputs under random weights on y and the state."""
    inputs = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    y, state = rule(*inputs, *arguments)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype) for t in (y, state)]
    loss = (y * weights[0]).sum() + (state * weights[1]).sum()
    return [y, state, *torch.autograd.grad(loss, inputs)]


def errors(results: Sequence[Tensor], oracle: Sequence[Tensor]) -> list[float]:
    """Largest deviation of each result over the oracle's largest element."""
    return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(results, oracle, strict=True)]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("log_decay", GRID)
def test_chunked_is_the_loop(log_decay: float | str, error: ErrorTaken) -> None:
    """In float64 to 1e-9; in float32 finite and no worse than the loop, gradients included."""
    inputs, low = draw(log_decay, 83, torch.float64), draw(log_decay, 83, torch.float32)
    oracle = run(delta_rule_loop, inputs, error)
    allowed = [max(1e-4, 3 * loss) for loss in errors(run(delta_rule_loop, low, error), oracle)]
    for chunk in (16, 64):
        assert max(errors(run(delta_rule_chunked, inputs, chunk, error), oracle)) < 1e-9
        results = run(delta_rule_chunked, low, chunk, error)
        assert all(result.isfinite().all() for result in results)
        assert all(loss <= limit for loss, limit in zip(errors(results, oracle), allowed, strict=True))


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("tokens", "chunk"), [(1, 16), (2, 16), (15, 64), (16, 16), (17, 16), (33, 32), (20, 1)])
def test_any_length_and_any_chunk(tokens: int, chunk: int, error: ErrorTaken) -> None:
    inputs = draw("mixed", tokens, torch.float64)
    assert max(errors(run(delta_rule_chunked, inputs, chunk, error), run(delta_rule_loop, inputs, error))) < 1e-9


@pytest.mark.parametrize("error", ERRORS)
def test_the_loop_is_the_equation(error: ErrorTaken) -> None:
    """Token by token and head by head, in one batch element."""
    q, k, v, beta, log_decay, start = draw("mixed", 7, torch.float64)
    y, last = delta_rule_loop(q, k, v, beta, log_decay, start, error)
    for head in range(3):
        state = start[0, head]
        for t in range(7):
            decayed = log_decay[0, t, head].exp() * state
            held = (decayed if error == "after" else state).T @ k[0, t, head]
            state = decayed + beta[0, t, head] * torch.outer(k[0, t, head], v[0, t, head] - held)
            torch.testing.assert_close(y[0, t, head], state.T @ q[0, t, head])
        torch.testing.assert_close(last[0, head], state)


@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_what_is_written_is_read(form: Form) -> None:
    """With beta 1 a key recalls its value exactly, a second write replaces it; another key's is untouched."""
    one, other = torch.eye(4, dtype=torch.float64)[:2]
    values = torch.arange(12, dtype=torch.float64).view(3, 4)
    k = torch.stack([one, other, one]).view(1, 3, 1, 4)
    q = torch.stack([one, one, other]).view(1, 3, 1, 4)
    y, state = delta_rule(q, k, values.view(1, 3, 1, 4), torch.ones(1, 3, 1).double(), None, None, Execution(form, 2))
    torch.testing.assert_close(y[0, :, 0], torch.stack([values[0], values[0], values[1]]))
    torch.testing.assert_close(state[0, 0, 0], values[2])


@pytest.mark.parametrize("error", ERRORS)
def test_segments_with_a_carried_state_are_the_whole(error: ErrorTaken) -> None:
    *inputs, start = draw("mixed", 83, torch.float64)
    whole, last = delta_rule_loop(*inputs, start, error)
    parts, state = [], start
    for first, end in ((0, 1), (1, 30), (30, 32), (32, 83)):
        y, state = delta_rule(*(tensor[:, first:end] for tensor in inputs), state, Execution("chunked", 16), error)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state, last, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_no_state_is_zero_and_no_decay_is_one(form: Form) -> None:
    q, k, v, beta, log_decay, start = draw(-1.0, 20, torch.float64)
    execution = Execution(form, 16)
    zero = delta_rule(q, k, v, beta, torch.zeros_like(log_decay), torch.zeros_like(start), execution)
    none = delta_rule(q, k, v, beta, None, None, execution)
    assert all(torch.equal(one, other) for one, other in zip(zero, none, strict=True))


@pytest.mark.parametrize("error", ERRORS)
def test_gradcheck_of_the_written_backward_pass(error: ErrorTaken) -> None:
    inputs = [tensor[:1].clone().requires_grad_() for tensor in draw(-0.5, 5, torch.float64, widths=(3, 2))]
    assert torch.autograd.gradcheck(lambda *tensors: delta_rule_chunked(*tensors, 2, error), inputs, fast_mode=True)


@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_autocast_leaves_the_state_in_float32(form: Form) -> None:
    q, k, v, beta, log_decay, start = draw("mixed", 40, torch.float32, strongest=1.0)
    low = [tensor.bfloat16() for tensor in (q, k, v)]
    expected, last = delta_rule_loop(*(tensor.float() for tensor in low), beta, log_decay, start)
    tensors = [tensor.requires_grad_() for tensor in low]
    allowed = 1e-5 if form == "loop" else 1e-2
    with torch.autocast("cpu", torch.bfloat16):
        y, state = delta_rule(*tensors, beta, log_decay, start, Execution(form, 16))
        gradients = torch.autograd.grad(y.sum() + state.sum(), tensors)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert errors([state, y], [last.double(), expected.double()]) <= [allowed, 1e-2]


def spread(results: Sequence[Tensor], oracle: Sequence[Tensor]) -> list[float]:
    """Root mean square deviation of each result over the oracle's root mean square."""
    return [((a.double() - b).norm() / b.norm()).item() for a, b in zip(results, oracle, strict=True)]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("log_decay", GRID)
def test_products_in_bfloat16_lose_no_more_than_its_inputs(log_decay: float | str, error: ErrorTaken) -> None:
    """At most four times what rounding q, k and v to bfloat16 changes in the exact loop, for each result."""
    given = draw(log_decay, 83, torch.float32, strongest=1.0, widths=(32, 24))
    low = [*(tensor.bfloat16() for tensor in given[:3]), *given[3:]]
    exact = run(delta_rule_loop, [tensor.double() for tensor in low], error)
    unrounded = run(delta_rule_loop, [tensor.double() for tensor in given], error)
    limits = [4 * loss for loss in spread(unrounded, exact)]
    losses = spread(run(delta_rule_chunked, low, 32, error), exact)
    assert all(loss <= limit for loss, limit in zip(losses, limits, strict=True))


def test_the_form_that_ran_is_recorded() -> None:
    *inputs, start = draw(-1.0, 8, torch.float32)
    with recorded_forms() as forms:
        delta_rule(*inputs, start, Execution("chunked", 4))
    assert forms == {"delta_rule": {"chunked"}}
    with recorded_forms() as forms:
        delta_rule(*(tensor[:, :1] for tensor in inputs), start, Execution("chunked", 4))
        delta_rule(*inputs, start, Execution("loop"))
    assert forms == {"delta_rule": {"loop"}}


@pytest.mark.parametrize("error", ERRORS)
def test_extreme_decays_are_exact_within_a_long_chunk(error: ErrorTaken) -> None:
    """A weak decay after many strong ones, which a difference of float32 sums would lose."""
    inputs = draw(-60.0, 64, torch.float32, strongest=1.0)
    inputs[4][:, 60:] = -1e-6
    oracle, _ = delta_rule_loop(*(tensor.double() for tensor in inputs), error)
    y, _ = delta_rule_chunked(*inputs, 64, error)
    assert errors([y], [oracle])[0] < 2e-6


@pytest.mark.parametrize(("width", "chunk", "longest"), [(16, 64, 32), (64, 64, 32), (128, 64, 64), (128, 16, 16)])
def test_chunks_are_as_long_as_pays(width: int, chunk: int, longest: int) -> None:
    assert longest_chunk(width, Execution("chunked", chunk)) == longest


@pytest.mark.parametrize("tokens", [1, 37, 50])
@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_flops_are_what_the_counter_counts(form: Form, tokens: int) -> None:
    execution = Execution(form, 16)
    inputs = [tensor[:1] for tensor in draw(-1.0, tokens, torch.float32)]
    with FlopCounterMode(display=False) as counter:
        delta_rule(*inputs, execution)
    counted, uncounted = delta_rule_flops(tokens, 3, 6, 5, execution)
    assert counted == counter.get_total_flops()
    assert all(flops > 0 for flops in uncounted.values())


@pytest.mark.parametrize(("strongest", "allowed"), [(-1e6, 1e-6), (-1e9, 3e-6), (-1e10, 3e-5)])
def test_decays_far_beyond_float32_cost_digits(strongest: float, allowed: float) -> None:
    """One token in ten that forgets all, among mild ones: the bound that the op states, gradients included."""
    inputs = draw(-0.5, 83, torch.float32)
    inputs[4][:, ::10] = strongest
    expected = run(delta_rule_loop, [tensor.double() for tensor in inputs])
    assert max(errors(run(delta_rule_chunked, inputs, 64), expected)) < allowed


def test_a_decay_of_minus_infinity_is_the_loops_alone() -> None:
    inputs = draw(-0.5, 83, torch.float32)
    inputs[4][:, 40] = -torch.inf
    assert all(result.isfinite().all() for result in delta_rule_loop(*inputs))
    assert not delta_rule_chunked(*inputs, 64)[0].isfinite().all()
