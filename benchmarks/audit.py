"""How long an audit takes: built-in architectures of 4 million parameters, one after the other.

Run it with `.venv/bin/python benchmarks/audit.py [ARCH ...]`. One run; threads as torch chooses.
"""

import sys
import time

import torch

import assay

NAMES = (
    *("gpt1", "gpt2", "transformer++", "groundthink", "gated-delta-net"),
    *("rwkv6", "rwkv7", "mamba2", "twin"),
)


def main() -> None:
    print(f"{torch.get_num_threads()} threads, 4M parameters, 4096 ids")
    for name in sys.argv[1:] or NAMES:
        model = assay.build(name, size=4_000_000, vocab_size=4096)
        started = time.perf_counter()
        report = assay.audit(model)
        print(f"{name:16} {time.perf_counter() - started:6.1f} s   {report.summary()}")


if __name__ == "__main__":
    main()
