"""Short causal convolution, one filter a channel: the loop that defines it and the form by shifted multiply-adds.

    y_t = bias + sum_w weight[:, w] x_{t - W + 1 + w}

with x zero before the start (the shift convolution of Fu et al. 2023, arXiv:2212.14052, as Mamba uses it).

Shapes: B batch, T tokens, D channels, W filter width. The state is the last W - 1 inputs.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.convolution_native import CONVOLUTION_NATIVE
from assay.ops.execution import Execution
from assay.ops.forms import Implementation, Op, register
from assay.ops.opaque import Differentiable


def causal_convolution(
    x: Float[Tensor, "B T D"],
    weight: Float[Tensor, "D W"],
    bias: Float[Tensor, " D"] | None,
    state: Float[Tensor, "B V D"] | None,
    execution: Execution,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B V D"]]:
    """(y, state after the last token), with V = W - 1; a state of None is zero.

    y and the state have the dtype of x; the sums are in float32 or wider, under autocast too.
    """
    B, T, D = x.shape
    before = weight.shape[1] - 1
    state = x.new_zeros(B, before, D) if state is None else state.to(x.dtype)
    bias = weight.new_zeros(D) if bias is None else bias
    y: Tensor = CONVOLUTION.run(execution, T, x, state, weight, bias)
    return y, torch.cat([state, x[:, max(T - before, 0) :]], 1)[:, min(T, before) :].clone()


def convolution_flops(tokens: int, channels: int, width: int) -> tuple[int, dict[str, int]]:
    """Forward FLOPs on one sequence, 2 D W a token: none in matrix products, all elementwise, by name."""
    return 0, {"convolution": 2 * tokens * channels * width}


def convolution_loop(
    x: Float[Tensor, "B T D"], state: Float[Tensor, "B V D"], weight: Float[Tensor, "D W"], bias: Float[Tensor, " D"]
) -> Float[Tensor, "B T D"]:
    """The definition, one output at a time."""
    inputs, weight, bias = _wide(x, state, weight, bias)
    W = weight.shape[1]
    rows = weight.t()
    outputs = [bias + (inputs[:, t : t + W] * rows).sum(1) for t in range(x.shape[1])]
    return torch.stack(outputs, 1).to(x.dtype)


def convolution_shifted(
    x: Float[Tensor, "B T D"], state: Float[Tensor, "B V D"], weight: Float[Tensor, "D W"], bias: Float[Tensor, " D"]
) -> Float[Tensor, "B T D"]:
    """All outputs at once, one multiply-add of the whole sequence for each w; first derivatives only.

    On a CPU three times as fast, forward and backward, as torch's grouped conv1d, which wants the channels first.
    """
    (y,) = _shifted_sum(x, state, weight, bias)
    return y


def _forward(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Accumulates in place, in both directions."""
    inputs, weight, bias = _wide(x, state, weight, bias)
    rows = weight.t().contiguous()
    T = x.shape[1]
    y = torch.addcmul(bias, inputs[:, :T], rows[0])
    for w in range(1, len(rows)):
        y.addcmul_(inputs[:, w : w + T], rows[w])
    return (y.to(x.dtype),), ()


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x, state, weight, bias = saved
    inputs, wide_weight, _ = _wide(x, state, weight, bias)
    dy, rows = gradients[0].to(inputs.dtype), wide_weight.t().contiguous()
    T, before = x.shape[1], state.shape[1]
    d_inputs, d_rows = torch.empty_like(inputs), torch.empty_like(rows)
    torch.mul(dy, rows[0], out=d_inputs[:, :T])
    d_inputs[:, T:] = 0
    product = torch.empty_like(dy)
    for w in range(len(rows)):
        if w:
            d_inputs[:, w : w + T].addcmul_(dy, rows[w])
        d_rows[w] = torch.mul(dy, inputs[:, w : w + T], out=product).sum((0, 1))
    d_inputs = d_inputs.to(x.dtype)
    dx, d_state = (part.contiguous() for part in (d_inputs[:, before:], d_inputs[:, :before]))
    return dx, d_state, d_rows.t().contiguous().to(weight.dtype), dy.sum((0, 1)).to(bias.dtype)


def _wide(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs, those before the first token too, [B, V + T, D], filters and bias in one type, float32 or wider."""
    dtype = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    return torch.cat([state, x], 1).to(dtype), weight.to(dtype), bias.to(dtype)


_shifted_sum = Differentiable(
    "shifted_sum", _forward, _gradient, outputs=1, keeps=(0, 1, 2, 3), native=CONVOLUTION_NATIVE
)

CONVOLUTION = register(
    Op(
        "convolution",
        {
            "loop": Implementation(lambda _, *inputs: convolution_loop(*inputs)),
            "chunked": Implementation(lambda _, *inputs: convolution_shifted(*inputs)),
        },
        one_token="loop",
    )
)
