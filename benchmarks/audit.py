"""How long an audit takes: architectures of 4 million parameters, every registered one and transformers' Mamba-2.

Run it with `.venv/bin/python benchmarks/audit.py [ARCH|hf-mamba2 ...]`. One run each; threads as torch chooses. Seconds
on the clock, and processor seconds of all threads, which other work on the machine changes less.
"""

import sys
import time

import torch
from torch import nn

import assay
from assay.model.architecture import ARCHITECTURES

SIZE, IDS = 4_000_000, 4096
MAMBA2 = "hf-mamba2"
"""The name of transformers' Mamba2ForCausalLM, where transformers is installed."""


def main() -> None:
    print(f"{torch.get_num_threads()} threads, 4M parameters, {IDS} ids")
    for name in sys.argv[1:] or (*ARCHITECTURES.names(), MAMBA2):
        model = mamba2() if name == MAMBA2 else assay.build(name, size=SIZE, vocab_size=IDS)
        started, processor = time.perf_counter(), time.process_time()
        report = assay.audit(model)
        seconds, busy = time.perf_counter() - started, time.process_time() - processor
        print(f"{name:16} {seconds:6.1f} s {busy:6.1f} s of processors   {report.summary()[:100]}", flush=True)


def mamba2() -> nn.Module:
    """transformers' Mamba-2 of 3.6 million parameters, in its own words: chunks of 256 tokens, no kernels."""
    from transformers import Mamba2Config, Mamba2ForCausalLM

    torch.manual_seed(0)
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
    width = {"hidden_size": 256, "num_heads": 8, "head_dim": 64, "n_groups": 1, "state_size": 64}
    config = Mamba2Config(vocab_size=IDS, num_hidden_layers=6, tie_word_embeddings=True, **width, **special)
    return Mamba2ForCausalLM(config)


if __name__ == "__main__":
    main()
