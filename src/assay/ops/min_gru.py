"""The GRU and minGRU, recurrences of two layers that mix paths: each as the loop that defines it and in a faster form.

    minGRU   z_t = sigmoid(gate_t),  h_t = (1 - z_t) h_{t-1} + z_t g(candidate_t)
             g(x) = x + 1/2 for x >= 0, sigmoid(x) below         (Feng et al. 2024, arXiv 2410.01201, section 3.1)
    GRU      r, z = sigmoid(W x_t + b + U h_{t-1} + c),  n = tanh(W' x_t + b' + r (U' h_{t-1} + c'))
             h_t = (1 - z) n + z h_{t-1}                                  (Cho et al. 2014, as torch.nn.GRU has it)

The gates of minGRU do not depend on h, so all its states follow from one parallel scan. The paper's appendix B scans
logarithms, for which g keeps h positive. The gates of the GRU depend on h: only its products with x can be formed for
all tokens at once.

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
    """All tokens at once, on logarithms; first derivatives only.

    Sums of log shares are in float64, so exact to float32's last digits while a gate stays below about 1e9.
    """
    log_value = torch.where(candidate >= 0, torch.log(candidate.relu() + 0.5), F.logsigmoid(candidate))
    (h,) = _log_scan(F.logsigmoid(-gate), F.logsigmoid(gate) + log_value, state)
    return h


def _forward(log_keep: Tensor, log_added: Tensor, state: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """h_t = exp(log_keep_t) h_{t-1} + exp(log_added_t), by the sums of log_keep and a cumulative log-sum-exp.

    The sums are in float64: they grow with the length, and what counts is their differences. The backward pass is
    written out because the derived one of logcumsumexp takes five times as long as this forward pass.
    """
    sums = log_keep.double().cumsum(1)
    h = (torch.logcumsumexp(log_added - sums, 1) + sums).exp_().to(log_keep.dtype)
    h.addcmul_(sums.exp().to(h.dtype), state[:, None])
    return (h,), ()


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (dh,), (log_keep, log_added, state, h) = gradients, saved
    keep = log_keep.exp()
    whole = _scan_from_the_end(dh, keep)
    d_keep = (whole * keep).mul_(torch.cat((state[:, None], h[:, :-1]), 1))
    return d_keep, whole * log_added.exp(), whole[:, 0] * keep[:, 0]


def _scan_from_the_end(dh: Tensor, keep: Tensor) -> Tensor:
    """d_t = dh_t + keep_{t+1} d_{t+1}, in log2(T) doublings (Hillis and Steele 1986); keep never exceeds 1."""
    T = dh.shape[1]
    d, product = dh.clone(), torch.cat((keep[:, 1:], torch.zeros_like(keep[:, :1])), 1)
    reach = 1
    while reach < T:
        d[:, :-reach] = torch.addcmul(d[:, :-reach], product[:, :-reach], d[:, reach:])
        product[:, :-reach] = product[:, :-reach] * product[:, reach:]
        product[:, -reach:] = 0
        reach *= 2
    return d


_log_scan = Differentiable("log_scan", _forward, _gradient, outputs=1, keeps=(0, 1, 2, 3))


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
