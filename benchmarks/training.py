"""Training speed of architectures in every mode, beside transformers' classes and the ceiling of matrix products.

`.venv/bin/python benchmarks/training.py [--architectures gpt1,mamba2] [--modes float32,bfloat16,compiled]
[--parameters 2.7M] [--threads N] [--rounds N] [--json]`. All steps take turns in one process: forward, loss, backward,
clipping and AdamW of a batch of 4 x 256 tokens, vocabulary 4,096, tied heads; medians. Ours have ops in C++ where
the machine can; `compiled` is bfloat16 with the whole objective compiled, for transformers the whole model, `compiled
float32` the same in float32. A share of the ceiling is the training FLOPs of the
documented formula per second, divided by what products of large matrices reach in the same precision. Needs the test
extra (transformers).
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from timing import alternate, ceilings, options, show
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
)

from assay.cli.numbers import parse_counts
from assay.data.batches import Batch
from assay.model.accounting import count_flops
from assay.model.architecture import ARCHITECTURES, ModelConfig, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionConfig, resolve_plan
from assay.model.sizing import solve
from assay.training.compiled import compile_objective, shortfall
from assay.training.config import TrainingConfig
from assay.training.native import native_shortfall, prepare_ops
from assay.training.objective import Objective
from assay.training.optim import build_optimizer
from assay.training.step import micro_batches, take_step

VOCAB, CONTEXT, ROWS = 4096, 256, 4
TOKENS = ROWS * CONTEXT
MODES = ("float32", "bfloat16", "compiled float32", "compiled")
NAMES = ("gpt1", "transformer++", "mamba2", "rwkv6", "rwkv7", "delta-net", "gated-delta-net")
TWINS = {"gpt1": "GPT-2", "transformer++": "Llama", "mamba2": "Mamba-2"}
"""Transformers' class of the same shape."""


class Side(NamedTuple):
    """One model in one mode: its step, and the training FLOPs of a token."""

    name: str
    mode: str
    step: Callable[[], object]
    flops_per_token: float
    theirs: bool


def ids() -> np.ndarray:
    """One batch with the targets, the same for all."""
    return np.random.default_rng(0).integers(0, VOCAB, (ROWS, CONTEXT + 1))


def ours(name: str, config: ModelConfig, mode: str, threads: int) -> Side:
    """A step as assay's loop takes it."""
    precision = "float32" if mode.endswith("float32") else "bfloat16"
    plan = resolve_plan(
        ExecutionConfig(device="cpu", precision=precision, threads=threads, compile=mode.startswith("compiled")), print
    )
    model = plan.apply(build_model(ARCHITECTURES.get(name), config, 0))
    training = TrainingConfig(tokens=TOKENS * 1000, batch_tokens=TOKENS, context=CONTEXT)
    objective, optimizer = Objective(model, plan), build_optimizer(model, training)
    if why := native_shortfall(name, prepare_ops(model, plan)):
        print(why)
    batch = Batch(ids()[:, :-1].copy(), ids()[:, 1:].copy())
    if mode.startswith("compiled"):
        how = compile_objective(objective, micro_batches(batch, training, "cpu", 0, 0)[0])
        if why := shortfall(name, how):
            print(why)

    def step() -> None:
        parts = micro_batches(batch, training, "cpu", 0, 0)
        take_step(objective, optimizer, parts, batch.scored, training, 0)

    return Side(name, mode, step, count_flops(model, CONTEXT).training, theirs=False)


def twin(name: str, config: ModelConfig, model: LanguageModel) -> nn.Module:
    """Transformers' model with the dimensions of ours."""
    if name == "gpt1":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCAB, n_positions=CONTEXT, n_embd=config.d_model, n_layer=config.n_layers,
                n_head=config.n_heads, n_inner=model.blocks[0].channel_mixer.up.out_features, resid_pdrop=0.0,
                embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
            )
        )  # fmt: skip
    if name == "transformer++":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=VOCAB, hidden_size=config.d_model, num_hidden_layers=config.n_layers,
                num_attention_heads=config.n_heads, intermediate_size=model.blocks[0].channel_mixer.up.out_features,
                max_position_embeddings=CONTEXT, use_cache=False, tie_word_embeddings=True,
            )
        )  # fmt: skip
    mixer = model.blocks[0].mixer
    return Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=VOCAB, hidden_size=config.d_model, num_hidden_layers=config.n_layers,
            num_heads=len(mixer.D), head_dim=mixer.head_dim, state_size=mixer.d_state, n_groups=mixer.n_groups,
            expand=2, chunk_size=64, use_cache=False, tie_word_embeddings=True,
        )
    )  # fmt: skip


def theirs(name: str, config: ModelConfig, mode: str) -> Side:
    """The same step with transformers' model and its own loss."""
    model = build_model(ARCHITECTURES.get(name), config, 0)
    flops = count_flops(model, CONTEXT).training
    other = twin(name, config, model)
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-3, fused=True)
    inputs = torch.from_numpy(ids()[:, :-1].copy())
    run = torch.compile(other) if mode.startswith("compiled") else other

    def autocast() -> AbstractContextManager[object]:
        return nullcontext() if mode.endswith("float32") else torch.autocast("cpu", dtype=torch.bfloat16)

    def step() -> None:
        with autocast():
            loss = run(input_ids=inputs, labels=inputs).loss
        loss.backward()
        nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return Side(f"transformers {TWINS[name]}", mode, step, flops, theirs=True)


def dimensions(name: str, parameters: int) -> ModelConfig:
    """Tied, and of this size; at 2.7M a gpt1 of 8 layers, 144 wide, with four heads."""
    architecture = ARCHITECTURES.get(name)
    fixed: dict[str, object] = {"vocab_size": VOCAB, "heads": "tied"}
    if "max_positions" in architecture.config.model_fields:
        fixed["max_positions"] = CONTEXT
    if name in ("gpt1", "transformer++") and parameters == 2_700_000:
        return architecture.config.parse({**fixed, "d_model": 144, "n_layers": 8, "n_heads": 4})
    return solve(architecture, parameters, "blocks+head", fixed)


def sides(names: list[str], modes: list[str], parameters: int, threads: int) -> Iterator[Side]:
    """Every model in every mode, transformers' after ours."""
    for name in names:
        config = dimensions(name, parameters)
        for mode in modes:
            yield ours(name, config, mode, threads)
        for mode in modes if name in TWINS else []:
            yield theirs(name, config, mode)


def main() -> None:
    parser = options(__doc__, rounds=9)
    parser.add_argument("--architectures", default=",".join(NAMES))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--parameters", default="2.7M", help="of every model, the head counted once")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    (parameters,) = parse_counts("--parameters", given.parameters)
    ceiling, tables = ceilings(), []
    title = f"{parameters:,} parameters, batch {ROWS} x {CONTEXT}, {given.threads} threads; ceiling " + ", ".join(
        f"{name} {flops / 1e9:,.0f} GFLOP/s" for name, flops in ceiling.items()
    )
    for name in given.architectures.split(","):
        # One architecture at a time: compiled models of all would not fit into a small machine's memory at once.
        group = list(sides([name], given.modes.split(","), parameters, given.threads))
        times = alternate({f"{side.name} {side.mode}": side.step for side in group}, given.rounds)
        rows = []
        for side in group:
            speed = TOKENS / statistics.median(times[f"{side.name} {side.mode}"])
            most = ceiling["float32" if side.mode.endswith("float32") else "bfloat16"]
            rows.append(
                {
                    "model": side.name,
                    "mode": side.mode,
                    "tokens/s": speed,
                    "training FLOPs a token": side.flops_per_token,
                    "% of the ceiling": 100 * speed * side.flops_per_token / most,
                }
            )
        tables += rows
        if not given.json:
            show(title, rows, as_json=False)  # as they come: the compiling of others takes minutes
    if given.json:
        show(title, tables, as_json=True, ceilings=ceiling)


if __name__ == "__main__":
    main()
