"""The chunked form of each op against its loop: forward and backward at B 4, T 256, alternating, medians.

`.venv/bin/python benchmarks/ops.py [--threads N] [--steps N] [--json]`.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from assay.ops.attention import causal_attention
from assay.ops.execution import Execution, Form
from assay.ops.min_gru import min_gru
from assay.ops.ssd import ssd
from assay.ops.wkv6 import wkv6

B, T, H = 4, 256, 4
WIDTHS = (32, 64)


def cases(width: int) -> dict[str, tuple[list[Tensor], Callable[..., tuple[Tensor, object]]]]:
    """{name: (inputs, op)}, with heads of `width`."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    r, k, v = (draw(B, T, H, width) for _ in range(3))
    decay, slow = -F.softplus(draw(B, T, H, width) - 2), -F.softplus(draw(B, T, H) - 2)
    b, c = draw(B, T, 1, width), draw(B, T, 1, width)
    return {
        "wkv6": ([r, k, v, decay, draw(H, width)], lambda *x: wkv6(*x[:-1], None, x[-1])),
        "ssd": ([v, slow, b, c], lambda *x: ssd(*x[:-1], None, x[-1])),
        "min_gru": ([r.flatten(2), k.flatten(2)], lambda *x: min_gru(*x[:-1], None, x[-1])),
        "attention": ([r, k, v], lambda *x: causal_attention(*x[:-1], None, x[-1])),
    }


def seconds(inputs: list[Tensor], op: Callable[..., tuple[Tensor, object]], form: Form) -> float:
    """Seconds of one forward and backward pass."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    started = time.perf_counter()
    y, _ = op(*leaves, Execution(form))
    y.square().mean().backward()
    return time.perf_counter() - started


def measure(steps: int) -> list[dict[str, float | str]]:
    """For each op, median milliseconds of both forms, and the median ratio of runs that follow each other."""
    rows: list[dict[str, float | str]] = []
    for width in WIDTHS:
        for name, (inputs, op) in cases(width).items():
            pairs = [(seconds(inputs, op, "loop"), seconds(inputs, op, "chunked")) for _ in range(steps + 1)][1:]
            loop, chunked = (1e3 * float(np.median(times)) for times in zip(*pairs, strict=True))
            ratio = float(np.median([a / b for a, b in pairs]))
            rows.append(
                {
                    "op": name,
                    "width": width,
                    "loop_ms": round(loop, 2),
                    "chunked_ms": round(chunked, 2),
                    "ratio": round(ratio, 1),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = measure(options.steps)
    if options.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
