"""The sound zoo: language models that look suspicious and are sound; the audit must fail none of them."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import gallery_drift as drift
import gallery_labels as labels
import gallery_scores as scores
import sound_layers as layers
import sound_modes as modes
import sound_rules as rules
from gallery_models import llama
from plain_models import (
    Block,
    D,
    Make,
    Mixing,
    Rule,
    Small,
    V,
    Wrapped,
    attention,
    causal_attention,
    running_mean,
    seeded,
    small,
)


@dataclass(frozen=True)
class Sound:
    """A sound model.

    `options` are keyword arguments of the audit, `max_tokens` is the longest input that the model takes, `rounding` how
    far float32 inside it can move a logit, relative to the logits' root mean square.
    """

    name: str
    make: Callable[[int], nn.Module]
    max_tokens: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    rounding: float = 0.0


def model(
    name: str,
    build: Make,
    max_tokens: int | None = None,
    options: Mapping[str, Any] | None = None,
    rounding: float = 0.0,
) -> Sound:
    return Sound(name, lambda seed: seeded(build, seed), max_tokens, options or {}, rounding)


def rule(name: str, mixing: Rule, rounding: float = 0.0) -> Sound:
    """A model whose second mixer follows a rule over time."""
    return model(name, lambda: small(Mixing(mixing)), rounding=rounding)


def layer(name: str, make: Callable[[], nn.Module]) -> Sound:
    """A model whose second mixer is `make()`."""
    return model(name, lambda: small(make()))


def plain() -> Small:
    return small(Mixing(causal_attention))


def block(mixer: nn.Module) -> Block:
    return Block(mixer, nn.LayerNorm(D))


@torch.no_grad()
def scaled(subject: nn.Module, factor: float) -> nn.Module:
    """The same model with every matrix times `factor`."""
    for parameter in subject.parameters():
        if parameter.ndim >= 2:
            parameter.mul_(factor)
    return subject


@torch.no_grad()
def zero_head() -> nn.Module:
    subject = plain()
    subject.head.weight.zero_()
    return subject


def one_layer_four_times() -> nn.Module:
    return Small([block(Mixing(causal_attention))] * 4)


def weight_normed() -> nn.Module:
    mixer = Mixing(causal_attention)
    mixer.value = weight_norm(mixer.value)
    return small(mixer)


def mamba2() -> nn.Module:
    import transformers

    config = transformers.Mamba2Config(
        vocab_size=V,
        hidden_size=16,
        num_heads=4,
        head_dim=8,
        state_size=8,
        n_groups=1,
        num_hidden_layers=2,
        chunk_size=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return transformers.Mamba2ForCausalLM(config)


def qwen3_next() -> nn.Module:
    import transformers

    config = transformers.Qwen3NextConfig(
        vocab_size=V,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    )
    return transformers.Qwen3NextForCausalLM(config)


def gpt2() -> nn.Module:
    import transformers

    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=V, n_positions=128, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1
        )
    )


SOUND_ZOO = [
    # rules over time
    rule("alibi", rules.alibi),
    rule("attention-sinks", rules.sinks_and_window),
    rule("token-shift", rules.token_shift),
    rule("running-mean", running_mean),
    rule("cumulative-norm", rules.cumulative_norm),
    rule("box-filter", rules.box_filter),
    rule("causal-gather", rules.earlier_half),
    rule("unfolded-windows", rules.unfolded),
    rule("doubling-scan", rules.doubling_scan),
    rule("chunked-linear-attention", rules.chunked_linear_attention),
    rule("hard-top-3-attention", rules.greatest_three),
    rule("float32-inside", rules.in_float32),
    rule("float32-fourier-convolution", rules.fourier_in_float32, rounding=1e-5),
    rule("bfloat16-autocast-inside", rules.in_autocast, rounding=0.1),
    rule("constants-without-gradient", rules.with_constants),
    rule("no-past-at-all", attention(lambda query, key: key == query)),
    # layers
    layer("min-gru-in-log-space", layers.MinGRU),
    layer("learned-sinks", layers.LearnedSinks),
    layer("rotation-with-offset", layers.RotationWithOffset),
    layer("dilated-convolution", layers.DilatedConvolution),
    layer("gru", lambda: layers.Recurrent(nn.GRU)),
    layer("lstm", lambda: layers.Recurrent(nn.LSTM)),
    layer("torch-attention-with-mask-buffer", layers.TorchAttention),
    layer("torch-encoder-layer", layers.TorchEncoderLayer),
    layer("counts-its-calls", layers.Counting),
    layer("token-choice-experts", layers.TokenExperts),
    layer("dropout-0.5", lambda: layers.DroppedAttention(0.5)),
    layer("dropout-0.9", lambda: layers.DroppedAttention(0.9)),
    layer("float32-only", layers.Float32Only),
    model("float32-norm", lambda: small(Mixing(causal_attention), layers.Float32Norm(D))),
    # chance, odd parameters, chaos
    layer("chaotic", lambda: modes.TanhRecurrence(1.5)),
    layer("very-chaotic", lambda: modes.TanhRecurrence(8.0)),
    layer("draws-by-token", modes.DrawsByToken),
    layer("spectral-norm", lambda: modes.SpectralNorm(older=False)),
    layer("older-spectral-norm", lambda: modes.SpectralNorm(older=True)),
    layer("mask-parameter-compared", lambda: modes.MaskParameter("compared")),
    layer("mask-parameter-of-infinities", lambda: modes.MaskParameter("-inf")),
    layer("mask-parameter-of-1e9", lambda: modes.MaskParameter("-1e9")),
    layer("integer-parameter", modes.Permuted),
    layer("gumbel-routing", modes.GumbelRouting),
    layer("stochastic-depth", modes.StochasticDepth),
    layer("experts-with-dropout", modes.ExpertsWithDropout),
    layer("generator-of-python", lambda: modes.OwnGenerator(random.Random(0))),
    layer("generator-of-numpy", lambda: modes.OwnGenerator(np.random.default_rng(0))),
    layer("older-generator-of-numpy", lambda: modes.OwnGenerator(np.random.RandomState(0))),
    layer("drops-long-rows", modes.DropsLongRows),
    # states that training calls move
    layer("loss-free-balancing", drift.Balanced),
    layer("balanced-by-a-parameter", lambda: drift.Balanced(rate=0.03, held="parameter")),
    layer("balanced-by-shares", lambda: drift.Balanced(rate=0.1, held="attribute", by_sign=False)),
    layer("scheduled-by-calls", lambda: drift.Scheduled(False)),
    layer("average-of-weights", lambda: drift.AverageForEvaluation(False)),
    # whole models
    model("large-weights", lambda: scaled(plain(), 100.0)),
    model("bfloat16-weights", lambda: plain().bfloat16()),
    model("forty-layers", lambda: Small(block(Mixing(causal_attention)) for _ in range(40))),
    model("frozen", lambda: plain().requires_grad_(False)),
    model(
        "masked-ids", lambda: layers.MaskedIds([block(Mixing(causal_attention))], outputs=64), options={"vocab_size": V}
    ),
    model("tied", lambda: layers.Tied(block(Mixing(causal_attention)))),
    model("embedding-scaled", lambda: small(Mixing(causal_attention), None, layers.ScaledEmbedding(V, D))),
    model("soft-capped-logits", lambda: layers.SoftCapped([block(Mixing(causal_attention))])),
    model("weight-norm", weight_normed),
    model("one-layer-four-times", one_layer_four_times),
    model("zero-head", zero_head),
    model("unigram", layers.Unigram, options={"vocab_size": V}),
    model("one-hot", lambda: small(Mixing(causal_attention), None, layers.OneHot()), options={"vocab_size": V}),
    model(
        "64-positions",
        lambda: small(Mixing(causal_attention), None, layers.LearnedPositions(64)),
        64,
        {"max_length": 64},
    ),
    model("returns-a-dict", lambda: Wrapped(plain(), lambda logits: {"logits": logits, "loss": None})),
    model("returns-a-tuple", lambda: Wrapped(plain(), lambda logits: (logits, logits.mean(1)))),
    model("returns-an-object", lambda: Wrapped(plain(), lambda logits: SimpleNamespace(logits=logits))),
    model("float32-logits", lambda: Wrapped(plain(), lambda logits: logits.float())),
    # labels that make a loss, or leave places out
    model("labels-of-the-past", lambda: labels.PastLabels(False)),
    model("places-left-out-by-labels", lambda: labels.LeavesOut(False)),
    model("auxiliary-loss", lambda: labels.WithAuxiliary(False)),
    model("sharper-without-targets", lambda: labels.LastUnlessTargets(False)),
    # scores that are no cross-entropy of the logits, or leave out what is no token
    model("temperature-of-two", plain, options={"loss": scores.half_as_sharp}),
    model("mixed-with-a-cache", plain, options={"log_prob": scores.cached(False)}),
    model("mean-of-two-models", plain, options={"log_prob": scores.mean_of_two}),
    model("padding-outside-the-vocabulary", plain, options={"loss": scores.ignoring(-100)}),
    # transformers
    model("transformers-gpt2", gpt2, 128),
    model("transformers-llama", lambda: llama(broken=False)),
    model("transformers-mamba2", mamba2),
    model("transformers-qwen3-next", qwen3_next),
]
