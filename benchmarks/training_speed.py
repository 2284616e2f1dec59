"""Training tokens/s of gpt1, mamba2, gpt2 and transformer++ beside transformers' classes, in one run.

`.venv/bin/python benchmarks/training_speed.py [--threads N] [--steps N] [--json]`. Both sides have the same dimensions,
batch and optimizer; steps alternate, so that a machine that slows down slows both; medians and their ratio are printed.
Needs the test extra (transformers).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    PretrainedConfig,
)

import assay
from assay.ops.cross_entropy import summed_nats

VOCAB, CONTEXT, N_LAYERS, N_HEADS = 4096, 256, 4, 4
NARROW, WIDE = 128, 256
D_STATE, HEAD_DIM = 64, 32
D_FF = 688

Step = Callable[[Tensor], None]


class Pair(NamedTuple):
    """A training step in assay and one in transformers, and the number of rows of a batch."""

    ours: Step
    theirs: Step
    rows: int


def our_step(name: str, **dimensions: int) -> Step:
    """A training step in assay: forward, chunked loss, backward, AdamW."""
    model = assay.build(name, vocab_size=VOCAB, n_layers=N_LAYERS, **dimensions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(ids: Tensor) -> None:
        hidden, _ = model.hidden(ids[:, :-1])
        loss = summed_nats(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten()) / ids[:, 1:].numel()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def their_step(model: nn.Module) -> Step:
    """The same step in transformers, with its own loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(ids: Tensor) -> None:
        model(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def gpt2_config(d_model: int) -> PretrainedConfig:
    """The configuration of transformers' GPT-2, dropout off."""
    return GPT2Config(
        vocab_size=VOCAB, n_positions=512, n_embd=d_model, n_layer=N_LAYERS, n_head=N_HEADS, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip


def pairs() -> dict[str, Pair]:
    """{name: the pair of steps}, of equal dimensions and without dropout."""
    mamba2 = Mamba2Config(
        vocab_size=VOCAB, hidden_size=NARROW, num_hidden_layers=N_LAYERS, num_heads=2 * NARROW // HEAD_DIM,
        head_dim=HEAD_DIM, state_size=D_STATE, n_groups=1, expand=2, chunk_size=64, use_cache=False,
        tie_word_embeddings=True,
    )  # fmt: skip
    llama = LlamaConfig(
        vocab_size=VOCAB, hidden_size=WIDE, num_hidden_layers=N_LAYERS, num_attention_heads=N_HEADS,
        intermediate_size=D_FF, use_cache=False, tie_word_embeddings=True,
    )  # fmt: skip
    wide = {"d_model": WIDE, "n_heads": N_HEADS}
    return {
        "gpt1": Pair(
            our_step("gpt1", d_model=NARROW, n_heads=N_HEADS), their_step(GPT2LMHeadModel(gpt2_config(NARROW))), 8
        ),
        "mamba2": Pair(
            our_step("mamba2", d_model=NARROW, d_state=D_STATE, head_dim=HEAD_DIM),
            their_step(Mamba2ForCausalLM(mamba2)),
            8,
        ),
        "gpt2": Pair(our_step("gpt2", max_positions=512, **wide), their_step(GPT2LMHeadModel(gpt2_config(WIDE))), 4),
        "transformer++": Pair(our_step("transformer++", d_ff=D_FF, **wide), their_step(LlamaForCausalLM(llama)), 4),
    }


def measure(pair: Pair, steps: int) -> dict[str, float]:
    """Median tokens/s of both, alternating, after one warm-up each."""
    ids = torch.randint(0, VOCAB, (pair.rows, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for index in range(steps + 1):
        for name, step in (("ours", pair.ours), ("theirs", pair.theirs)):
            started = time.perf_counter()
            step(ids)
            if index:
                seconds[name].append(time.perf_counter() - started)
    speed = {name: pair.rows * CONTEXT / statistics.median(times) for name, times in seconds.items()}
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    return {
        "our_tokens_per_second": round(speed["ours"]),
        "their_tokens_per_second": round(speed["theirs"]),
        "ratio": round(statistics.median(ratios), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = {name: measure(pair, options.steps) for name, pair in pairs().items()}
    if options.json:
        print(json.dumps(results))
    else:
        for name, result in results.items():
            print(f"{name:13} {result}")


if __name__ == "__main__":
    main()
