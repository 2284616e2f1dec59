"""The forms of causal attention by head width, context and type: milliseconds of one forward and backward pass.

`.venv/bin/python benchmarks/attention.py [--contexts 64,256] [--widths 36] [--threads N] [--steps N] [--json]`.
From this table follows which form a CPU takes (`FUSED_FROM`, `KEPT_QUERIES` and the block length of assay.ops): rounds
alternate over the forms, and what counts is the time of the process, which other processes on the machine add less to.
"""

import argparse
import json
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from assay.ops import attention_blocks
from assay.ops.attention import causal_attention_fused
from assay.ops.attention_blocks import attention_in_blocks

TOKENS, HEADS = 1024, 4
"""Tokens of a batch, or one sequence where that is longer."""
PLAIN_CONTEXT = 2048
"""The longest context at which scores are formed whole."""
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """All scores at once, their softmax in float32, torch's own gradient."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    hidden = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    scores = (q @ k.mT).float() / q.shape[-1] ** 0.5
    return (scores.masked_fill(hidden, -torch.inf).softmax(-1).to(v.dtype) @ v).transpose(1, 2)


def padded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's fused attention with heads padded to a multiple of 32."""
    width = q.shape[-1]
    q, k, v = (F.pad(x, (0, -width % 32)).transpose(1, 2) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=width**-0.5)
    return y.transpose(1, 2)[..., :width]


def in_blocks(length: int, *, kept: bool) -> Attend:
    """Blocks of `length` queries; the weights are kept for the gradient or formed again."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with patch.object(attention_blocks, "KEPT_QUERIES", q.shape[1] if kept else 0):
            return attention_in_blocks(q, k, v, length)

    return attend


def forms(context: int) -> dict[str, Attend]:
    """By name, those that can be timed at this context."""
    found: dict[str, Attend] = {"fused": causal_attention_fused, "padded": padded}
    if context <= PLAIN_CONTEXT:
        found |= {"plain": plain} | {f"kept-{length}": in_blocks(length, kept=True) for length in (64, 128)}
    return found | {f"again-{length}": in_blocks(length, kept=False) for length in (64, 128, 256)}


def seconds(attend: Attend, joined: Tensor) -> float:
    """Processor seconds of one forward and backward pass over queries, keys and values that stand in one tensor."""
    leaf = joined.detach().requires_grad_()
    started = time.process_time()
    y = attend(*leaf.unflatten(-1, (3 * HEADS, -1)).chunk(3, 2))
    y.backward(torch.ones_like(y))
    return time.process_time() - started


def row(context: int, width: int, dtype: torch.dtype, steps: int) -> dict[str, float | str]:
    """Median milliseconds of each form."""
    generator = torch.Generator().manual_seed(0)
    joined = torch.randn(max(1, TOKENS // context), context, 3 * HEADS * width, generator=generator).to(dtype)
    times: dict[str, list[float]] = {name: [] for name in forms(context)}
    for _ in range(steps + 1):
        for name, attend in forms(context).items():
            times[name].append(seconds(attend, joined))
    named: dict[str, float | str] = {"context": context, "width": width, "dtype": str(dtype).removeprefix("torch.")}
    return named | {name: round(1e3 * float(np.median(taken[1:])), 2) for name, taken in times.items()}


def integers(text: str) -> list[int]:
    """Numbers separated by commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--contexts", type=integers, default=[64, 128, 256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--widths", type=integers, default=[32, 36, 48, 64, 128])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for context in options.contexts:
        for width in options.widths:
            for dtype in (torch.float32, torch.bfloat16):
                found = row(context, width, dtype, options.steps)
                words = "  ".join(f"{key} {value}" for key, value in found.items())
                print(json.dumps(found) if options.json else words, flush=True)


if __name__ == "__main__":
    main()
