"""State space duality, the recurrence of Mamba-2: the loop that defines it and the chunked form.

    S_t = exp(log_decay_t) S_{t-1} + x_t b_t^T,    y_t = S_t c_t        (Dao and Gu 2024, arXiv:2405.21060, eq. 1 and 6)

Shapes: B batch, T tokens, H heads, P head width, N state width, G groups; b and c of group g serve the H/G heads
from g H/G on. Inside: n = B C chunks of L tokens, R = H/G heads a group.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.ops.execution import Execution, equal_chunks
from assay.ops.forms import Implementation, Op, register
from assay.ops.opaque import Differentiable

LOG2_E = math.log2(math.e)


def ssd(
    x: Float[Tensor, "B T H P"],
    log_decay: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T G N"],
    c: Float[Tensor, "B T G N"],
    state: Float[Tensor, "B H P N"] | None,
    execution: Execution,
) -> tuple[Float[Tensor, "B T H P"], Float[Tensor, "B H P N"]]:
    """(y, state after the last token) in the form of `execution`; a single token is one turn of the loop.

    `log_decay` is finite and <= 0; a state of None is zero. y has the dtype of x; the arithmetic and the state are in
    float32, under autocast too, or in float64 where x or log_decay is.
    """
    result: tuple[Tensor, Tensor] = SSD.run(execution, x.shape[1], x, log_decay, b, c, state)
    return result


def ssd_flops(
    tokens: int, n_heads: int, head_dim: int, d_state: int, n_groups: int, execution: Execution
) -> tuple[int, dict[str, int]]:
    """Forward FLOPs on one sequence: those in matrix products, and by name those that are elementwise.

    A head of the loop reads with 2 P N a token and takes 3 P N elementwise. Chunked, all heads of a chunk of L tokens
    take G 2 N L^2 for scores, H 2 P L^2 for their values and H 4 P N L to read and write the state, and elementwise
    H (2 L^2 + 3 P L + 2 P N) for the decays of pairs, values and states.
    """
    H, P, N = n_heads, head_dim, d_state
    if SSD.form(execution, tokens) == "loop":
        return 2 * tokens * H * P * N, {"recurrence": 3 * tokens * H * P * N}
    n_chunks, L = equal_chunks(tokens, execution.chunk_length)
    products = 2 * n_groups * N * L**2 + H * (2 * P * L**2 + 4 * P * N * L)
    return n_chunks * products, {"decays": n_chunks * H * (2 * L**2 + 3 * P * L + 2 * P * N)}


def ssd_loop(
    x: Float[Tensor, "B T H P"],
    log_decay: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T G N"],
    c: Float[Tensor, "B T G N"],
    state: Float[Tensor, "B H P N"] | None,
) -> tuple[Float[Tensor, "B T H P"], Float[Tensor, "B H P N"]]:
    """The definition, one token at a time. Arguments as for `ssd`."""
    y_dtype, groups = x.dtype, b.shape[2]
    x, log_decay, b, c, state = _promote(x, log_decay, b, c, state)
    decay = log_decay.exp().unflatten(2, (groups, -1))[..., None, None]
    x, state = x.unflatten(2, (groups, -1)), state.unflatten(1, (groups, -1))
    outputs = []
    with torch.autocast(x.device.type, enabled=False):
        for t in range(x.shape[1]):
            state = decay[:, t] * state + x[:, t, ..., None] * b[:, t, :, None, None, :]
            outputs.append((state @ c[:, t, :, None, :, None]).squeeze(-1))
    return torch.stack(outputs, 1).flatten(2, 3).to(y_dtype), state.flatten(1, 2)


def ssd_chunked(
    x: Float[Tensor, "B T H P"],
    log_decay: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T G N"],
    c: Float[Tensor, "B T G N"],
    state: Float[Tensor, "B H P N"] | None,
    chunk_length: int,
) -> tuple[Float[Tensor, "B T H P"], Float[Tensor, "B H P N"]]:
    """Attention-like products within chunks of equal length, at most `chunk_length`; the state passes between them.

    The decay between two tokens of a chunk is 2 to the difference of two sums, formed in float64: exact to float32's
    last digits down to a log decay of about -1e9 a token; at -1e10 later tokens of its chunk are off by 1e-5, from
    -1e16 on by all, and at -inf they are no number, where the loop has one. Arguments as for `ssd`; first derivatives
    only.
    """
    B, T = x.shape[:2]
    y_dtype = x.dtype
    x, log_decay, b, c, state = _promote(x, log_decay, b, c, state)
    n_chunks, L = equal_chunks(T, chunk_length)
    x, log_decay, b, c = (_cut(tensor, B * n_chunks, L) for tensor in (x, log_decay, b, c))
    y, state = _chunked(x, log_decay, b.transpose(1, 2), c.transpose(1, 2), state)
    return y.reshape(B, n_chunks * L, *y.shape[2:])[:, :T].to(y_dtype), state


def _promote(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor | None) -> list[Tensor]:
    """All five in float32 or wider; the state zero where there is none."""
    dtype = torch.promote_types(torch.promote_types(x.dtype, log_decay.dtype), torch.float32)
    if state is None:
        state = x.new_zeros(x.shape[0], *x.shape[2:], b.shape[-1], dtype=dtype)
    return [tensor.to(dtype) for tensor in (x, log_decay, b, c, state)]


def _cut(tensor: Tensor, n: int, L: int) -> Tensor:
    """[B, T, ...] -> [n, L, ...], zeros after the end: tokens that neither write nor decay."""
    B, T, *rest = tensor.shape
    missing = n * L // B - T
    if missing:
        tensor = F.pad(tensor, (0, 0) * len(rest) + (0, missing))
    return tensor.reshape(n, L, *rest)


def _forward(
    x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """x [n, L, H, P], log_decay [n, L, H], b and c [n, G, L, N], state [B, H, P, N] -> y [n, L, H, P], state.

    The backward pass is written out because it takes a quarter less time than the derived one: it reuses the decays,
    and gets the gradient of log_decay from sums over tokens that are already there.
    """
    n, L, H, P = x.shape
    G, N = b.shape[1], b.shape[3]
    chunks = (state.shape[0], n // state.shape[0], H, P, N)
    between, since_start, until_end = _decays(log_decay)
    between = between.view(n, G, H // G, L, L)

    scores = (c @ b.mT).tril_()
    mixing = (scores[:, :, None] * between).view(n, H, L, L)
    x_heads = x.transpose(1, 2).contiguous()
    within = mixing @ x_heads

    x_end = (x * until_end[..., None]).view(n, L, G, -1)
    written = (x_end.permute(0, 2, 3, 1) @ b).view(chunks)
    entering, last = _scan(since_start[:, -1].view(*chunks[:3], 1, 1), written, state, range(chunks[1]))
    across = (c @ entering.view(n, G, -1, N).mT).transpose(1, 2).reshape(n, L, H, P)
    across.mul_(since_start[..., None])

    rest = (between, since_start, until_end, scores, mixing, x_heads, x_end, entering, across)
    return (across + within.transpose(1, 2), last), rest


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return _backward(*gradients, *saved)


def _backward(
    dy: Tensor,
    d_last: Tensor,
    b: Tensor,
    c: Tensor,
    between: Tensor,
    since_start: Tensor,
    until_end: Tensor,
    scores: Tensor,
    mixing: Tensor,
    x_heads: Tensor,
    x_end: Tensor,
    entering: Tensor,
    across: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of x, log_decay, b, c and the state, through the states first, then within the chunks."""
    n, L, H, P = dy.shape
    G, N = b.shape[1], b.shape[3]
    B, C = entering.shape[:2]
    whole = since_start[:, -1].view(B, C, H, 1, 1)

    dy_start = (dy * since_start[..., None]).view(n, L, G, -1).transpose(1, 2)
    d_entering = (dy_start.mT @ c).view_as(entering)
    d_leaving, d_state = _scan(whole, d_entering, d_last, reversed(range(C)))
    d_whole = ((d_leaving * entering).sum((-1, -2), keepdim=True) * whole).view(n, 1, H)
    leaving = d_leaving.view(n, G, -1, N)
    dx = (b @ leaving.mT).transpose(1, 2).reshape(n, L, H, P)
    d_until_end = (dx * x_end.view_as(dx)).sum(-1)
    dx.mul_(until_end[..., None])

    dy_heads = dy.transpose(1, 2).contiguous()
    dx += (mixing.mT @ dy_heads).transpose(1, 2)
    d_mixing = (dy_heads @ x_heads.mT).view_as(between).mul_(between)
    d_scores = d_mixing.sum(2).tril_()
    db = x_end.transpose(1, 2) @ leaving + d_scores.mT @ c
    dc = dy_start @ entering.view_as(leaving) + d_scores @ b

    # A token's decay with itself is 1 whatever log_decay is: its large terms must not be left to cancel.
    d_between = d_mixing.mul_(scores[:, :, None]).view(n, H, L, L)
    d_between.diagonal(dim1=-2, dim2=-1).zero_()
    d_sums = (dy * across).sum(-1) + (d_between.sum(-1) - d_between.sum(-2)).transpose(1, 2)
    d_log_decay = d_sums.flip(1).cumsum(1).flip(1) + d_whole
    d_log_decay[:, 1:] += d_until_end[:, :-1].cumsum(1)
    return dx, d_log_decay, db, dc, d_state


_chunked = Differentiable("ssd_chunked", _forward, _gradient, outputs=2, keeps=(2, 3))


def _decays(log_decay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Decays between pairs of tokens [n, H, L, L] (1 above the diagonal), since the chunk's start and until its end.

    The last two are [n, L, H]. Powers of 2, because MKL's exp takes fifty times as long where float32 underflows.
    """
    sums = log_decay.double().transpose(1, 2).cumsum(-1) * LOG2_E
    between = (sums[..., :, None] - sums[..., None, :]).to(log_decay.dtype).tril_().exp2_()
    since_start = sums.to(log_decay.dtype).exp2()
    until_end = (sums[..., -1:] - sums).to(log_decay.dtype).exp2()
    return between, since_start.transpose(1, 2).contiguous(), until_end.transpose(1, 2).contiguous()


def _scan(decay: Tensor, added: Tensor, start: Tensor, order: Iterable[int]) -> tuple[Tensor, Tensor]:
    """From `start`, s -> decay[:, k] s + added[:, k] for k in `order`: s before each k [B, C, ...], and the last s."""
    before = torch.empty_like(added)
    for k in order:
        before[:, k] = start
        start = torch.addcmul(added[:, k], start, decay[:, k])
    return before, start


SSD = register(
    Op(
        "ssd",
        {
            "loop": Implementation(lambda _, *inputs: ssd_loop(*inputs)),
            "chunked": Implementation(
                lambda execution, x, log_decay, b, c, state: ssd_chunked(
                    x, log_decay, b, c, state, execution.chunk_length
                )
            ),
        },
        one_token="loop",
    )
)
