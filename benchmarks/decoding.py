"""Decoding at batch 1 and reading a prompt of 512: tokens/s of assay, in Python and compiled, beside transformers.

`.venv/bin/python benchmarks/decoding.py [NAME ...] [--parameters 2.7M] [--threads N] [--tokens N] [--processor-time]
[--no-compile] [--json]`. Of gpt2 and mamba2 transformers' classes have the same dimensions and are asked through
`generate`; all turns alternate in one process, so that a machine that slows down slows all, and medians over turns and
of their ratios are printed. With `--processor-time` seconds are those that the process's threads worked, which other
load on the machine changes less. Needs the test extra (transformers).
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, Mamba2Config, Mamba2ForCausalLM

import assay
from assay.cli.numbers import parse_counts
from assay.decoding import Decoder
from assay.layers.attention import CausalAttention
from assay.layers.basic import GeluMLP
from assay.layers.mamba2 import Mamba2
from assay.model.lm import LanguageModel

VOCAB, PROMPT = 4096, 512
NAMES = ("gpt2", "mamba2", "rwkv6", "rwkv7", "gated-delta-net")

clock: Callable[[], float] = time.perf_counter

Turn = Callable[[], float]
"""Does some work and returns the tokens/s it took."""


def gpt2_like(model: LanguageModel, positions: int) -> Any:
    """Transformers' GPT-2 with the dimensions of `model`."""
    mixer, channel = model.sequence_blocks()[0].layers()
    assert isinstance(mixer, CausalAttention)
    assert isinstance(channel, GeluMLP)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB, n_positions=positions, n_embd=model.head_weight.shape[1], n_layer=len(model.blocks),
            n_head=mixer.n_heads, n_inner=channel.up.out_features, tie_word_embeddings=False, eos_token_id=None,
            bos_token_id=None, pad_token_id=0,
        )
    )  # fmt: skip


def mamba2_like(model: LanguageModel, _: int) -> Any:
    """Transformers' Mamba-2 with the dimensions of `model`."""
    (mixer,) = model.sequence_blocks()[0].layers()
    assert isinstance(mixer, Mamba2)
    return Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=VOCAB, hidden_size=model.head_weight.shape[1], num_hidden_layers=len(model.blocks),
            num_heads=len(mixer.D), head_dim=mixer.head_dim, state_size=mixer.d_state, n_groups=mixer.n_groups,
            expand=mixer.out_proj.in_features // model.head_weight.shape[1], chunk_size=64, tie_word_embeddings=False,
            eos_token_id=None, bos_token_id=None, pad_token_id=0,
        )
    )  # fmt: skip


THEIRS: dict[str, Callable[[LanguageModel, int], Any]] = {"gpt2": gpt2_like, "mamba2": mamba2_like}


def our_prefill(decoder: Decoder, prompt: Tensor) -> Turn:
    """The prompt in parallel form."""

    def turn() -> float:
        started = clock()
        decoder.start(prompt)
        return prompt.numel() / (clock() - started)

    return turn


def our_steps(decoder: Decoder, prompt: Tensor, tokens: int) -> Turn:
    """Greedy steps after the prompt, whose reading is not counted; nor is the first step, which may compile."""

    def turn() -> float:
        token = decoder.start(prompt).argmax(-1)
        token = decoder.step(token).argmax(-1)
        started = clock()
        for _ in range(tokens):
            token = decoder.step(token).argmax(-1)
        return tokens / (clock() - started)

    return turn


def their_generate(model: Any, prompt: Tensor, tokens: int, *, prefill: bool) -> Turn:
    """`generate`, greedy: a prompt and one token, or tokens after it without the time that the first one took."""

    def seconds(count: int) -> float:
        started = clock()
        model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count, do_sample=False)
        return clock() - started

    def turn() -> float:
        first = seconds(1)
        return prompt.numel() / first if prefill else tokens / max(seconds(tokens + 1) - first, 1e-9)

    return turn


def turns(name: str, parameters: int, tokens: int, compiled: bool) -> dict[str, Turn]:
    """{what is measured: its turn} of one architecture."""
    positions = PROMPT + tokens + 2
    more: dict[str, Any] = {"max_positions": positions} if name == "gpt2" else {}
    model = assay.build(name, size=parameters, vocab_size=VOCAB, **more).eval()
    prompt = torch.randint(VOCAB, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    decoder = Decoder(model, 1, positions)
    found = {"prefill": our_prefill(decoder, prompt), "steps": our_steps(decoder, prompt, tokens)}
    if compiled:
        found["compiled steps"] = our_steps(Decoder(model, 1, positions, compiled=True, tell=print), prompt, tokens)
    if name in THEIRS:
        theirs = THEIRS[name](model, positions).eval()
        found["their prefill"] = their_generate(theirs, prompt, tokens, prefill=True)
        found["their steps"] = their_generate(theirs, prompt, tokens, prefill=False)
    return found


def measure(found: dict[str, Turn], rounds: int) -> dict[str, float]:
    """Medians of tokens/s, and of the ratios to theirs round by round, after a round that is not counted."""
    speeds: dict[str, list[float]] = {what: [] for what in found}
    for number in range(rounds + 1):
        for what, turn in found.items():
            speed = turn()
            if number:
                speeds[what].append(speed)
    result: dict[str, float] = {what: round(float(np.median(of))) for what, of in speeds.items()}
    for what in ("prefill", "steps", "compiled steps"):
        theirs = speeds.get(f"their {what.removeprefix('compiled ')}")
        if what in speeds and theirs is not None:
            ratios = [ours / other for ours, other in zip(speeds[what], theirs, strict=True)]
            result[f"{what} / theirs"] = round(float(np.median(ratios)), 2)
    return result


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--parameters", default="2.7M", help="of every model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tokens", type=int, default=100, help="a turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    (parameters,) = parse_counts("--parameters", options.parameters)
    torch.set_num_threads(options.threads)
    if options.processor_time:
        global clock
        clock = time.process_time
    results = {}
    for name in options.names:
        results[name] = measure(turns(name, parameters, options.tokens, not options.no_compile), options.rounds)
        if not options.json:
            print(f"{name:16} " + ", ".join(f"{what} {value:g}" for what, value in results[name].items()), flush=True)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
