"""DeltaNet and Gated DeltaNet written once more, one sequence, token by token and head by head, from the equations."""

import torch
from torch import Tensor, nn

from assay.layers.delta_net import DeltaNet
from assay.layers.gated_delta_net import GatedDeltaNet


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x**2).sum() + 1e-6)


def oracle(layer: DeltaNet, x: Tensor) -> Tensor:
    """[T, D] -> [T, D] with the layer's weights and options."""
    p = dict(layer.named_parameters())
    K, V, H, R = layer.key_dim, layer.value_dim, layer.n_value_heads, layer.n_value_heads // layer.n_heads
    keys = layer.n_heads * K
    inputs, outputs = [], []
    states = [torch.zeros(K, V, dtype=x.dtype) for _ in range(H)]
    for token in x:
        inputs.append(p["qkv_proj.weight"] @ token)
        qkv = inputs[-1]
        if "conv_weight" in p:
            width = p["conv_weight"].shape[1]
            seen = inputs[-width:]
            qkv = sum((p["conv_weight"][:, w - len(seen)] * seen[w] for w in range(len(seen))), torch.zeros_like(qkv))
        qkv = silu(qkv)
        heads = []
        for h in range(H):
            q = unit(qkv[h // R * K : (h // R + 1) * K]) / K**0.5
            k = unit(qkv[keys + h // R * K : keys + (h // R + 1) * K])
            v = qkv[2 * keys + h * V : 2 * keys + (h + 1) * V]
            beta = torch.sigmoid(p["beta_proj.weight"][h] @ token) * (2 if layer.negative_eigenvalues else 1)
            decayed = states[h]
            if "A_log" in p:
                dt = torch.log1p(torch.exp(p["decay_proj.weight"][h] @ token + p["dt_bias"][h]))
                decayed = torch.exp(-torch.exp(p["A_log"][h]) * dt) * states[h]
            held = (states[h] if layer.error == "before" else decayed).T @ k
            states[h] = decayed + beta * torch.outer(k, v - held)
            y = states[h].T @ q
            heads.append(y / torch.sqrt((y**2).mean() + 1e-6) * p["norm.weight"])
        y = torch.cat(heads)
        if "gate_proj.weight" in p:
            y = y * silu(p["gate_proj.weight"] @ token)
        outputs.append(p["output_proj.weight"] @ y)
    return torch.stack(outputs)


@torch.no_grad()
def with_every_weight_drawn(layer: DeltaNet, dtype: torch.dtype = torch.float64) -> DeltaNet:
    """Matrices N(0, 1/fan in), the rest 1 + 0.1 N, decays spread over their range: none hides another."""
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=generator)
        if parameter.ndim == 2:
            parameter.div_(parameter.shape[1] ** 0.5)
        else:
            parameter.mul_(0.1).add_(1)
    if isinstance(layer, GatedDeltaNet):
        layer.A_log.copy_(torch.linspace(-4.0, 3.0, len(layer.A_log)))
        layer.dt_bias.copy_(torch.linspace(-3.0, 1.0, len(layer.dt_bias)).flip(0))
    return layer.to(dtype)


def sequence(tokens: int, dtype: torch.dtype = torch.float64, batch: int = 2) -> Tensor:
    """Inputs of width 16."""
    return torch.randn(batch, tokens, 16, generator=torch.Generator().manual_seed(tokens), dtype=torch.float64).to(
        dtype
    )
