"""Short causal convolution, one filter a channel: the loop that defines it and the form by shifted multiply-adds.

    y_t = bias + sum_w weight[:, w] x_{t - W + 1 + w}

with x zero before the start (the shift convolution of Fu et al. 2023, arXiv:2212.14052, as Mamba uses it).

Shapes: B batch, T tokens, D channels, W filter width. The state is the last W - 1 inputs.
"""

import torch
from jaxtyping import Float
from torch import Tensor

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
    if state is None:
        state = x.new_zeros(B, before, D)
    inputs = torch.cat([state.to(x.dtype), x], 1)
    dtype = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    bias = weight.new_zeros(D) if bias is None else bias
    y: Tensor = CONVOLUTION.run(execution, T, inputs.to(dtype), weight.to(dtype), bias.to(dtype))
    return y.to(x.dtype), inputs[:, T:].clone()


def convolution_flops(tokens: int, channels: int, width: int) -> tuple[int, dict[str, int]]:
    """Forward FLOPs on one sequence, 2 D W a token: none in matrix products, all elementwise, by name."""
    return 0, {"convolution": 2 * tokens * channels * width}


def convolution_loop(
    inputs: Float[Tensor, "B S D"], weight: Float[Tensor, "D W"], bias: Float[Tensor, " D"]
) -> Float[Tensor, "B T D"]:
    """The definition, one output at a time: inputs of S = T + W - 1 tokens, W - 1 of them before the first output."""
    W = weight.shape[1]
    rows = weight.t()
    outputs = [bias + (inputs[:, t : t + W] * rows).sum(1) for t in range(inputs.shape[1] - W + 1)]
    return torch.stack(outputs, 1)


def convolution_shifted(
    inputs: Float[Tensor, "B S D"], weight: Float[Tensor, "D W"], bias: Float[Tensor, " D"]
) -> Float[Tensor, "B T D"]:
    """All outputs at once, one multiply-add of the whole sequence for each w; first derivatives only.

    On a CPU three times as fast, forward and backward, as torch's grouped conv1d, which wants the channels first.
    """
    (y,) = _shifted_sum(inputs, weight.t().contiguous(), bias)
    return y


def _forward(inputs: Tensor, weight: Tensor, bias: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """inputs [B, S, D], weight [W, D], bias [D] -> [B, S - W + 1, D]; accumulates in place, in both directions."""
    T = inputs.shape[1] - len(weight) + 1
    y = torch.addcmul(bias, inputs[:, :T], weight[0])
    for w in range(1, len(weight)):
        y.addcmul_(inputs[:, w : w + T], weight[w])
    return (y,), ()


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (dy,), (inputs, weight) = gradients, saved
    T = dy.shape[1]
    d_inputs, d_weight = torch.empty_like(inputs), torch.empty_like(weight)
    torch.mul(dy, weight[0], out=d_inputs[:, :T])
    d_inputs[:, T:] = 0
    product = torch.empty_like(dy)
    for w in range(len(weight)):
        if w:
            d_inputs[:, w : w + T].addcmul_(dy, weight[w])
        d_weight[w] = torch.mul(dy, inputs[:, w : w + T], out=product).sum((0, 1))
    return d_inputs, d_weight, dy.sum((0, 1))


_shifted_sum = Differentiable("shifted_sum", _forward, _gradient, outputs=1, keeps=(0, 1))

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
