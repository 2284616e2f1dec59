"""Gated DeltaNet's layer against that of transformers' Qwen3-Next (torch path) on redrawn weights, in float32."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen3NextConfig
from transformers.models.qwen3_next.modeling_qwen3_next import (
    Qwen3NextGatedDeltaNet,
    torch_recurrent_gated_delta_rule,
)

from assay.audit.redraw import redrawn
from assay.layers.gated_delta_net import GatedDeltaNet
from assay.ops.delta_rule import delta_rule_loop
from assay.ops.execution import Execution, recorded_forms
from parity.agreement import TOLERANCE

SHAPES: dict[str, dict[str, Any]] = {
    "as-many-value-heads": {"hidden_size": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
                            "linear_key_head_dim": 16, "linear_value_head_dim": 16},
    "twice-the-value-heads": {"hidden_size": 24, "linear_num_key_heads": 3, "linear_num_value_heads": 6,
                              "linear_key_head_dim": 8, "linear_value_head_dim": 12},
    "one-key-head": {"hidden_size": 40, "linear_num_key_heads": 1, "linear_num_value_heads": 4,
                     "linear_key_head_dim": 20, "linear_value_head_dim": 10, "linear_conv_kernel_dim": 2},
}  # fmt: skip


@torch.no_grad()
def theirs(shape: str) -> Qwen3NextGatedDeltaNet:
    """Redrawn, with decays over the range in which the memory matters."""
    config = Qwen3NextConfig(**SHAPES[shape], num_hidden_layers=1, layer_types=["linear_attention"])
    layer = redrawn(Qwen3NextGatedDeltaNet(config, 0).eval(), torch.Generator().manual_seed(1))
    layer.A_log.copy_(torch.linspace(-4.0, 1.0, len(layer.A_log)))
    return layer


def ours(reference: Qwen3NextGatedDeltaNet) -> GatedDeltaNet:
    """Their weights in our layout: they interleave q, k, v and gate, and beta and decay, by key head."""
    G, K, V = reference.num_k_heads, reference.head_k_dim, reference.head_v_dim
    R = reference.num_v_heads // G
    qkvz, ba = reference.in_proj_qkvz.weight, reference.in_proj_ba.weight
    q, k, v, z = (part.flatten(0, 1) for part in qkvz.unflatten(0, (G, -1)).split([K, K, R * V, R * V], 1))
    beta, decay = (part.flatten(0, 1) for part in ba.unflatten(0, (G, -1)).split([R, R], 1))
    layer = GatedDeltaNet(
        reference.hidden_size, G, K, V, n_value_heads=G * R, conv_width=reference.conv_kernel_size
    ).eval()
    weights = {
        "qkv_proj.weight": torch.cat([q, k, v]),
        "gate_proj.weight": z,
        "beta_proj.weight": beta,
        "decay_proj.weight": decay,
        "conv_weight": reference.conv1d.weight.squeeze(1),
        "A_log": reference.A_log,
        "dt_bias": reference.dt_bias,
        "norm.weight": reference.norm.weight,
        "output_proj.weight": reference.out_proj.weight,
    }
    layer.load_state_dict(weights)
    return layer


def inputs(width: int, tokens: int) -> Tensor:
    return torch.randn(2, tokens, width, generator=torch.Generator().manual_seed(tokens))


def difference(y: Tensor, expected: Tensor) -> float:
    return float((y - expected).abs().max() / expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tokens", [1, 3, 67, 131])
def test_outputs(shape: str, tokens: int) -> None:
    reference = theirs(shape)
    layer, x = ours(reference), inputs(reference.hidden_size, tokens)
    expected = reference(x)
    for execution in (Execution("loop"), Execution("chunked", 16), Execution("chunked", 64)):
        layer.execution = execution
        with recorded_forms() as forms:
            y, _ = layer(x)
        assert forms["delta_rule"] == {execution.form if tokens > 1 else "loop"}
        assert difference(y, expected) <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_every_tensor_matters(shape: str) -> None:
    reference = theirs(shape)
    layer, x = ours(reference), inputs(reference.hidden_size, 67)
    fresh = copy.deepcopy(layer)
    fresh.reset_parameters(torch.Generator().manual_seed(98))
    other = dict(redrawn(fresh, torch.Generator().manual_seed(99)).named_parameters())
    expected = reference(x)
    for name, parameter in layer.named_parameters():
        before = parameter.clone()
        parameter.copy_(other[name])
        assert difference(layer(x)[0], expected) > 100 * TOLERANCE, name
        parameter.copy_(before)


def test_the_loop_is_their_recurrence() -> None:
    """Forward, final state and gradients; theirs scales q."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 19, 3, 8, generator=generator).unbind()
    k = torch.nn.functional.normalize(k, dim=-1)
    beta, log_decay = torch.rand(2, 2, 19, 3, generator=generator).unbind()
    state = torch.randn(2, 3, 8, 8, generator=generator)
    tensors = [x.requires_grad_() for x in (q, k, v, beta, -log_decay, state)]
    q, k, v, beta, log_decay, state = tensors
    y, last = delta_rule_loop(q * 8**-0.5, k, v, beta, log_decay, state)
    expected, final = torch_recurrent_gated_delta_rule(q, k, v, log_decay, beta, state, output_final_state=True)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, final, rtol=1e-4, atol=1e-5)
    ours, theirs = (torch.autograd.grad(a.square().sum() + b.sum(), tensors) for a, b in ((y, last), (expected, final)))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
