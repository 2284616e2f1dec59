"""The GRU and minGRU, recurrences of two layers that mix paths: each as the loop that defines it and in a faster form.

    minGRU   z_t = sigmoid(gate_t),  h_t = (1 - z_t) h_{t-1} + z_t g(candidate_t)
             g(x) = x + 1/2 for x >= 0, sigmoid(x) below         (Feng et al. 2024, arXiv 2410.01201, section 3.1)
    GRU      r, z = sigmoid(W x_t + b + U h_{t-1} + c),  n = tanh(W' x_t + b' + r (U' h_{t-1} + c'))
             h_t = (1 - z) n + z h_{t-1}                                  (Cho et al. 2014, as torch.nn.GRU has it)

The gates of minGRU do not depend on h, so all its states follow from one parallel scan. The paper's appendix B scans
logarithms, for which g keeps h positive; here products are scanned, as the shares z and 1 - z never exceed 1. The gates
of the GRU depend on h: only its products with x can be formed for all tokens at once.

Shapes: B batch, T tokens, D input width, W state width. States are in float32 or wider.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.ops.execution import Execution
from assay.ops.forms import Implementation, Op, register
from assay.ops.opaque import Differentiable


def min_gru(
    gate: Float[Tensor, "B T W"],
    candidate: Float[Tensor, "B T W"],
    state: Float[Tensor, "B W"] | None,
    execution: Execution,
) -> tuple[Float[Tensor, "B T W"], Float[Tensor, "B W"]]:
    """(h of every token, h of the last) in the form of `execution`; a single token is one turn of the loop.

    `state` is not negative, None is zero. The first result has the type of `candidate`, the state at least float32.
    """
    dtype = torch.promote_types(candidate.dtype, torch.float32)
    start = gate.new_zeros(gate.shape[0], gate.shape[2], dtype=dtype) if state is None else state.to(dtype)
    h: Tensor = MIN_GRU.run(execution, gate.shape[1], gate.to(dtype), candidate.to(dtype), start)
    return h.to(candidate.dtype), h[:, -1].clone()


def min_gru_loop(
    gate: Float[Tensor, "B T W"], candidate: Float[Tensor, "B T W"], state: Float[Tensor, "B W"]
) -> Float[Tensor, "B T W"]:
    """The definition, one token at a time.

    The sigmoids go through their logarithm: torch's derivative of its own is zero where 1 - y rounds to zero.
    """
    outputs = []
    for t in range(gate.shape[1]):
        value = torch.where(candidate[:, t] >= 0, candidate[:, t] + 0.5, torch.sigmoid(candidate[:, t]))
        state = F.logsigmoid(-gate[:, t]).exp() * state + F.logsigmoid(gate[:, t]).exp() * value
        outputs.append(state)
    return torch.stack(outputs, 1)


def min_gru_scan(
    gate: Float[Tensor, "B T W"], candidate: Float[Tensor, "B T W"], state: Float[Tensor, "B W"]
) -> Float[Tensor, "B T W"]:
    """All tokens at once; first derivatives only."""
    value = torch.where(candidate >= 0, candidate + 0.5, torch.sigmoid(candidate))
    (h,) = _linear_scan(F.logsigmoid(-gate).exp(), F.logsigmoid(gate).exp() * value, state)
    return h


def _forward(keep: Tensor, added: Tensor, state: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """h_t = keep_t h_{t-1} + added_t. The backward pass is written out, as the derived one keeps every doubling."""
    first = torch.addcmul(added[:, :1], keep[:, :1], state[:, None])
    return (_scan(torch.cat((first, added[:, 1:]), 1), keep),), ()


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (dh,), (keep, state, h) = gradients, saved
    # From the end each token passes on what the next one kept of it; the last has no next one.
    next_keep = torch.cat((torch.zeros_like(keep[:, :1]), keep.flip(1)[:, :-1]), 1)
    whole = _scan(dh.flip(1), next_keep).flip(1)
    return whole * torch.cat((state[:, None], h[:, :-1]), 1), whole, whole[:, 0] * keep[:, 0]


def _scan(x: Tensor, keep: Tensor) -> Tensor:
    """h_t = x_t + keep_t h_{t-1}, in log2(T) doublings (Hillis and Steele 1986); keep never exceeds 1."""
    h, product, reach = x.clone(), keep.clone(), 1
    while reach < x.shape[1]:
        h[:, reach:] = torch.addcmul(h[:, reach:], product[:, reach:], h[:, :-reach])
        product[:, reach:] = product[:, reach:] * product[:, :-reach]
        reach *= 2
    return h


_linear_scan = Differentiable("linear_scan", _forward, _gradient, outputs=1, keeps=(0, 2, 3))


def gru(
    x: Float[Tensor, "B T D"],
    weight_in: Float[Tensor, "G D"],
    weight_state: Float[Tensor, "G W"],
    bias_in: Float[Tensor, " G"],
    bias_state: Float[Tensor, " G"],
    state: Float[Tensor, "B W"] | None,
    execution: Execution,
) -> tuple[Float[Tensor, "B T W"], Float[Tensor, "B W"]]:
    """(h of every token, h of the last), with G = 3 W rows in torch's order r, z, n.

    The recurrence is a loop over tokens in both forms. `chunked` multiplies all tokens by `weight_in` at once; `loop`,
    and a single token, do it one by one. Types as for `min_gru`.
    """
    y_dtype, dtype = x.dtype, torch.promote_types(x.dtype, torch.float32)
    h = x.new_zeros(x.shape[0], weight_state.shape[1], dtype=dtype) if state is None else state.to(dtype)
    x, weight_in, weight_state, bias_in, bias_state = (
        tensor.to(dtype) for tensor in (x, weight_in, weight_state, bias_in, bias_state)
    )
    with torch.autocast(x.device.type, enabled=False):
        outputs: list[Tensor] = GRU.run(execution, x.shape[1], x, weight_in, weight_state, bias_in, bias_state, h)
    return torch.stack(outputs, 1).to(y_dtype), outputs[-1]


def _gru_loop(
    x: Tensor, weight_in: Tensor, weight_state: Tensor, bias_in: Tensor, bias_state: Tensor, h: Tensor
) -> list[Tensor]:
    """The definition: h of every token, one after the other."""
    outputs = []
    for token in x.unbind(1):
        h = _gru_step(F.linear(token, weight_in, bias_in), F.linear(h, weight_state, bias_state), h)
        outputs.append(h)
    return outputs


def _gru_chunked(
    x: Tensor, weight_in: Tensor, weight_state: Tensor, bias_in: Tensor, bias_state: Tensor, h: Tensor
) -> list[Tensor]:
    """The same, with the products of all tokens with `weight_in` formed at once."""
    outputs = []
    for from_input in F.linear(x, weight_in, bias_in).unbind(1):
        h = _gru_step(from_input, F.linear(h, weight_state, bias_state), h)
        outputs.append(h)
    return outputs


def _gru_step(from_input: Tensor, from_state: Tensor, h: Tensor) -> Tensor:
    """One turn of the recurrence from both products [B, 3 W]."""
    reset_x, update_x, new_x = from_input.chunk(3, -1)
    reset_h, update_h, new_h = from_state.chunk(3, -1)
    new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
    return torch.lerp(new, h, torch.sigmoid(update_x + update_h))


MIN_GRU = register(
    Op(
        "min_gru",
        {
            "loop": Implementation(lambda _, *inputs: min_gru_loop(*inputs)),
            "chunked": Implementation(lambda _, *inputs: min_gru_scan(*inputs)),
        },
        one_token="loop",
    )
)
GRU = register(
    Op(
        "gru",
        {
            "loop": Implementation(lambda _, *inputs: _gru_loop(*inputs)),
            "chunked": Implementation(lambda _, *inputs: _gru_chunked(*inputs)),
        },
        one_token="loop",
    )
)
