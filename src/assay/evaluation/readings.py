"""What a model holds after some of the tokens of each window: its residual stream, its recurrent states, made narrow.

A state has as many numbers as its architecture likes, up to some hundred thousand. Each is divided by its standard
deviation over a few windows; they are then dealt into so many groups of the same size, and added up within each with
random signs (a count sketch: Charikar et al. 2002, Weinberger et al. 2009). What is written across a state in a random
direction is as strong beside the rest as before, however large the state; what is in one number of many is not.

Shapes: N windows, B of them at once, C tokens of a window, P places in a window, n numbers of a state, D d_model.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from assay.evaluation.interventions import tensors_of
from assay.evaluation.passes import windows_at_once
from assay.model.lm import LanguageModel, ModelState
from assay.model.plan import ExecutionPlan
from assay.seeding import derive

What = Literal["stream", "state"]
GROUPS = 1_024
"""Into which the numbers of a state are added up."""
CALIBRATION_WINDOWS, CALIBRATION_PLACES = 32, 2
"""Windows, and places in each, by which the numbers of a state are scaled."""
PASS_TOKENS = 16_384
MOST_AT_ONCE = 128


class Held(NamedTuple):
    """What is held at P places of N windows."""

    places: Int[np.ndarray, " P"]
    """Tokens read before: 1 is after the first."""
    of: dict[tuple[What, int], Float[Tensor, "N P W"]]
    """(what, block) -> its numbers, W of them; float32 on the CPU."""
    hidden: Float[Tensor, "N P D"]
    """What the head reads."""
    sizes: dict[tuple[What, int], int]
    """How many numbers each had."""


class Sketch:
    """Numbers [B, n] -> [B, at most `groups`], the same for all calls; `scale` [n] multiplies them first."""

    def __init__(self, scale: Float[Tensor, " n"], seed: int, groups: int = GROUPS) -> None:
        n = len(scale)
        self.groups = groups
        self.order: Tensor | None = None
        self.scale = scale
        if n > groups:
            generator = torch.Generator().manual_seed(seed)
            self.order = torch.randperm(n, generator=generator).to(scale.device)
            signs = torch.randint(0, 2, (n,), generator=generator).to(scale)
            self.scale = (scale * (2 * signs - 1))[self.order]

    def __call__(self, x: Float[Tensor, "B n"]) -> Float[Tensor, "B W"]:
        if self.order is None:
            return x * self.scale
        x = x[:, self.order] * self.scale
        per_group = -(-x.shape[1] // self.groups)
        return (
            nn.functional.pad(x, (0, per_group * self.groups - x.shape[1])).view(len(x), self.groups, per_group).sum(-1)
        )


@torch.no_grad()
def held(
    model: LanguageModel,
    inputs: Int[np.ndarray, "N C"],
    blocks: Sequence[int],
    stride: int,
    plan: ExecutionPlan,
    seed: int = 0,
    groups: int = GROUPS,
    pass_tokens: int = PASS_TOKENS,
    tell: Callable[[str], None] = lambda _: None,
) -> Held:
    """Read `inputs` in segments of `stride` tokens, and keep what `blocks` hold after each.

    A block without a recurrent state has a stream alone: keys and values of all tokens are no summary of them. The
    model is in evaluation mode meanwhile. `pass_tokens` decides how much memory it takes and nothing else.
    """
    training = model.training
    model.eval()
    places = np.arange(stride, inputs.shape[1] + 1, stride)
    try:
        at_once = min(MOST_AT_ONCE, windows_at_once(model, inputs.shape[1], pass_tokens))
        sketches = _sketches(model, inputs, blocks, plan, seed, groups, at_once)
        found: dict[tuple[What, int], list[Tensor]] = {}
        hidden: list[Tensor] = []
        for low in range(0, len(inputs), at_once):
            tell(f"information: window {low} of {len(inputs)}")
            rows = list(_segments(model, inputs[low : low + at_once], blocks, stride, plan))
            hidden.append(torch.stack([row.hidden for row in rows], 1))
            for block in blocks:
                streams = torch.stack([row.streams[block] for row in rows], 1)
                found.setdefault(("stream", block), []).append(streams)
                if block in sketches:
                    states = [sketches[block](row.states[block]).cpu() for row in rows]
                    found.setdefault(("state", block), []).append(torch.stack(states, 1))
    finally:
        model.train(training)
    sizes: dict[tuple[What, int], int] = {("state", block): len(of.scale) for block, of in sketches.items()}
    sizes |= {("stream", block): hidden[0].shape[-1] for block in blocks}
    return Held(places, {key: torch.cat(of) for key, of in found.items()}, torch.cat(hidden), sizes)


class _Segment(NamedTuple):
    """After one segment."""

    hidden: Float[Tensor, "B D"]
    streams: dict[int, Float[Tensor, "B D"]]
    states: dict[int, Float[Tensor, "B n"]]
    """On the plan's device; missing where a block has no recurrent state."""


def _segments(
    model: LanguageModel, inputs: Int[np.ndarray, "B C"], blocks: Sequence[int], stride: int, plan: ExecutionPlan
) -> Iterator[_Segment]:
    """What is held after every `stride` tokens, one segment at a time."""
    streams: dict[int, Tensor] = {}

    def keep(index: int) -> Callable[[nn.Module, object, tuple[Tensor, object]], None]:
        return lambda _, __, output: streams.update({index: output[0][:, -1].float().cpu()})

    ids = torch.from_numpy(inputs).to(plan.device)
    hooks = [model.sequence_blocks()[index].register_forward_hook(keep(index)) for index in blocks]
    state: ModelState | None = None
    try:
        for end in range(stride, ids.shape[1] + 1, stride):
            with plan.autocast():
                hidden, state = model.hidden(ids[:, end - stride : end], state)
            states = {index: _flat(state, index) for index in blocks}
            kept = {index: of for index, of in states.items() if of is not None}
            yield _Segment(hidden[:, -1].float().cpu(), dict(streams), kept)
    finally:
        for hook in hooks:
            hook.remove()


def _flat(state: ModelState, block: int) -> Float[Tensor, "B n"] | None:
    """The recurrent state of a block as numbers, None where it has none."""
    tensors = [
        tensor.reshape(len(tensor), -1).float() for tensor in tensors_of(state.blocks[block], "state") if tensor.numel()
    ]
    return torch.cat(tensors, 1) if tensors else None


def _sketches(
    model: LanguageModel,
    inputs: Int[np.ndarray, "N C"],
    blocks: Sequence[int],
    plan: ExecutionPlan,
    seed: int,
    groups: int,
    at_once: int,
) -> dict[int, Sketch]:
    """Block -> the sketch of its state, its numbers scaled by what they are in the first windows."""
    if not any(tensors_of(model.initial_state(1).blocks[block], "state") for block in blocks):
        return {}
    sums: dict[int, Tensor] = {}
    squares: dict[int, Tensor] = {}
    count = 0
    stride = max(1, inputs.shape[1] // CALIBRATION_PLACES)
    few = inputs[:CALIBRATION_WINDOWS]
    for low in range(0, len(few), at_once):
        for segment in _segments(model, few[low : low + at_once], blocks, stride, plan):
            count += len(segment.hidden)
            for block, state in segment.states.items():
                of = state.double()
                sums[block] = of.sum(0) + sums[block] if block in sums else of.sum(0)
                squares[block] = of.square().sum(0) + squares[block] if block in squares else of.square().sum(0)
    found = {}
    for block, total in sums.items():
        mean = total / count
        std = (squares[block] / count - mean.square()).clamp_min(0).sqrt()
        floor = 1e-3 * std.square().mean().sqrt()
        scale = torch.where(std > floor, 1 / std.clamp_min(1e-30), 0.0)
        found[block] = Sketch(scale.float(), derive(seed, "sketch", block), groups)
    return found
