"""Training tokens/s of gpt1 and mamba2 beside transformers' GPT2LMHeadModel and Mamba2ForCausalLM, in one run.

`.venv/bin/python benchmarks/training_speed.py [--threads N] [--steps N] [--json]`. Both sides have the same dimensions,
batch and optimizer; steps alternate, so that a machine that slows down slows both; medians and their ratio are printed.
Needs the test extra (transformers).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, Mamba2Config, Mamba2ForCausalLM

import assay
from assay.ops.cross_entropy import summed_nats

VOCAB, CONTEXT, ROWS = 4096, 256, 8
D_MODEL, N_LAYERS, N_HEADS = 128, 4, 4
D_STATE, HEAD_DIM = 64, 32

Step = Callable[[Tensor], None]


def our_step(name: str, **dimensions: int) -> Step:
    """A training step of ours: forward, chunked loss, backward, AdamW."""
    model = assay.build(name, vocab_size=VOCAB, d_model=D_MODEL, n_layers=N_LAYERS, **dimensions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(ids: Tensor) -> None:
        hidden, _ = model.hidden(ids[:, :-1])
        loss = summed_nats(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten()) / (ROWS * CONTEXT)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def their_step(model: nn.Module) -> Step:
    """The same through transformers' own loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(ids: Tensor) -> None:
        model(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def pairs() -> dict[str, tuple[Step, Step]]:
    """(ours, theirs) at one configuration; dropout off on both sides."""
    gpt2 = GPT2Config(
        vocab_size=VOCAB, n_positions=512, n_embd=D_MODEL, n_layer=N_LAYERS, n_head=N_HEADS, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    mamba2 = Mamba2Config(
        vocab_size=VOCAB, hidden_size=D_MODEL, num_hidden_layers=N_LAYERS, num_heads=2 * D_MODEL // HEAD_DIM,
        head_dim=HEAD_DIM, state_size=D_STATE, n_groups=1, expand=2, chunk_size=64, use_cache=False,
        tie_word_embeddings=True,
    )  # fmt: skip
    return {
        "gpt1": (our_step("gpt1", n_heads=N_HEADS), their_step(GPT2LMHeadModel(gpt2))),
        "mamba2": (our_step("mamba2", d_state=D_STATE, head_dim=HEAD_DIM), their_step(Mamba2ForCausalLM(mamba2))),
    }


def measure(ours: Step, theirs: Step, steps: int) -> dict[str, float]:
    """Median tokens/s of both, alternating, after one warm-up each."""
    ids = torch.randint(0, VOCAB, (ROWS, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for index in range(steps + 1):
        for name, step in (("ours", ours), ("theirs", theirs)):
            started = time.perf_counter()
            step(ids)
            if index:
                seconds[name].append(time.perf_counter() - started)
    speed = {name: ROWS * CONTEXT / statistics.median(times) for name, times in seconds.items()}
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
    results = {name: measure(ours, theirs, options.steps) for name, (ours, theirs) in pairs().items()}
    if options.json:
        print(json.dumps(results))
    else:
        for name, result in results.items():
            print(f"{name:8} {result}")


if __name__ == "__main__":
    main()
