"""Numbers of every recurrent state of a model on some sequences: size, rank, how long a change lasts, what it is of.

Shapes: N sequences, T tokens, P positions, L numbers of tokens after a change, C channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from assay.evaluation.inside.sequences import Sequences, evaluating
from assay.evaluation.inside.spectrum import effective_rank
from assay.evaluation.inside.states import Key, Trace, read_in_segments, recurrent_parts, survival
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan

LARGE = 5.0
"""Elements beyond it count as saturated: the limit of GroundThink's gate G3.5."""
EVEN = 8
"""Positions at equal distances at which states are looked at."""
FLOAT32_BYTES = 4
TRACE_BYTES = 256 << 20
"""Of the states that are held at once."""


class Points(NamedTuple):
    """Where the states of a text of T tokens are looked at."""

    even: tuple[int, ...]
    """At equal distances; the last is T."""
    begin: int
    """After so many tokens a change is made."""
    lags: tuple[int, ...]
    """So many tokens later what is left of it is looked at; none where the text ends there."""

    @property
    def all(self) -> tuple[int, ...]:
        """Every position, and the one before the last for the step between two tokens."""
        end = self.even[-1]
        asked = {*self.even, self.begin, *(self.begin + lag for lag in self.lags), max(1, end - 1)}
        return tuple(sorted(asked))


def points_of(tokens: int) -> Points:
    """Eight even points of a text, a change after an eighth, and lags 1, 2, 3, 4, 6, 8, 12, ... up to the end."""
    even = tuple(sorted({max(1, round(tokens * part / EVEN)) for part in range(1, EVEN + 1)}))
    begin = max(1, tokens // EVEN)
    horizon = tokens - begin
    steps = {1 << power for power in range(24)} | {3 << power for power in range(23)}
    return Points(
        even, begin, tuple(sorted({lag for lag in steps if lag < horizon} | ({horizon} if horizon else set())))
    )


class PartNumbers(NamedTuple):
    """Of one recurrent tensor; every array has one axis for the sequences."""

    shape: tuple[int, ...]
    """Of one sequence."""
    rms: np.ndarray
    """[P, N] at the even points."""
    cosine: np.ndarray
    """[P - 1, N] between successive even points."""
    next_cosine: np.ndarray
    """[N] between the last two tokens; NaN where there is but one."""
    large: np.ndarray
    """[N] share of elements beyond LARGE, at the end."""
    variance: np.ndarray
    """[N] of the elements, at the end."""
    rank: np.ndarray
    """[N] effective rank at the end, a mean over heads; NaN for vectors and for zeros."""
    left: np.ndarray
    """[L, N, C] what is left of a change."""
    finite: np.ndarray
    """[N] whether every number at every point is."""


class Gate(NamedTuple):
    """What a tap named after a decay says is left of a change, [L, N, C]: the product of the decays so far."""

    block: int
    name: str
    left: np.ndarray


def read_memory(
    model: LanguageModel, sequences: Sequences, plan: ExecutionPlan, tell: Callable[[str], None] = lambda _: None
) -> tuple[dict[Key, PartNumbers], list[Gate]]:
    """Every recurrent tensor, and every gate of a decay; both empty for a model without any."""
    points = points_of(sequences.inputs.shape[1])
    carried = _numbers_carried(model)
    if not carried:
        return {}, []
    most = max(1, TRACE_BYTES // (FLOAT32_BYTES * carried * len(points.all)))
    parts: dict[Key, list[PartNumbers]] = {}
    gates: dict[tuple[int, str], list[np.ndarray]] = {}
    for rows in sequences.batches(most):
        tell(f"state: window {rows.start} of {len(sequences.inputs)}")
        ids = torch.from_numpy(sequences.inputs[rows]).to(plan.device)
        logs: dict[tuple[int, str], list[Tensor]] = {}

        def see(block: int, name: str, x: Tensor, logs: dict[tuple[int, str], list[Tensor]] = logs) -> None:
            if "decay" in name.rpartition(".")[2] and x.ndim == 3:
                logs.setdefault((block, name), []).append(x.double().sum(1))

        with evaluating(model):
            trace = read_in_segments(model, ids, points.all, points.begin, plan, see)
            for key in trace.states:
                left = survival(model, trace, key, rows.start, plan)
                parts.setdefault(key, []).append(_numbers(trace, key, points, left))
        for place, of in logs.items():
            so_far = torch.stack(of[points.all.index(points.begin) + 1 :]).cumsum(0) if points.lags else of[0][:0]
            gates.setdefault(place, []).append(so_far[_behind(points)].exp().cpu().numpy())
    joined = {key: _joined(of) for key, of in parts.items()}
    return joined, [Gate(*place, np.concatenate(of, axis=1)) for place, of in gates.items() if points.lags]


def _numbers_carried(model: LanguageModel) -> int:
    """Numbers in the recurrent states of one sequence."""
    state = model.initial_state(1)
    return sum(tensor.numel() for index, of in enumerate(state.blocks) for _, tensor in recurrent_parts(of, index))


def _numbers(trace: Trace, key: Key, points: Points, left: Tensor) -> PartNumbers:
    states = dict(zip(trace.positions, trace.states[key], strict=True))
    even = torch.stack([states[position].flatten(1).double() for position in points.even])
    last = states[points.even[-1]]
    before = states[max(1, points.even[-1] - 1)]
    one = points.even[-1] == 1
    rank = effective_rank(last).reshape(len(last), -1).mean(1) if last.ndim > 2 else last.new_full((len(last),), np.nan)
    end = even[-1]
    return PartNumbers(
        tuple(last.shape[1:]),
        even.square().mean(-1).sqrt().cpu().numpy(),
        torch.cosine_similarity(even[:-1], even[1:], dim=-1).cpu().numpy(),
        np.full(len(last), np.nan)
        if one
        else torch.cosine_similarity(before.flatten(1).double(), end, dim=-1).cpu().numpy(),
        (end.abs() > LARGE).double().mean(1).cpu().numpy(),
        end.var(1).cpu().numpy(),
        rank.double().cpu().numpy(),
        left[_behind(points)].cpu().numpy(),
        torch.stack([state.flatten(1).isfinite().all(1) for state in trace.states[key]]).all(0).cpu().numpy(),
    )


def _behind(points: Points) -> list[int]:
    """Which of the segments after the change end at the lags."""
    begin = points.all.index(points.begin) + 1
    return [points.all.index(points.begin + lag) - begin for lag in points.lags]


def _joined(parts: Sequence[PartNumbers]) -> PartNumbers:
    first = parts[0]
    axes = {"rms": 1, "cosine": 1, "left": 1}
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=axes.get(name, 0))
        for name in first._fields
        if name != "shape"
    }
    return first._replace(**arrays)


@torch.no_grad()
def read_distances(
    model: LanguageModel, sequences: Sequences, plan: ExecutionPlan
) -> dict[Key, Float[np.ndarray, "N N"]]:
    """Of every recurrent tensor: how far its state after the first half of text i is from that after the second half of
    text j, over the root mean square of both norms. 0 is the same, about 1.4 unrelated.

    Both halves are read from an empty state. None where a text has but one token.
    """
    half = sequences.inputs.shape[1] // 2
    if not half:
        return {}
    found: dict[Key, tuple[list[Tensor], list[Tensor]]] = {}
    for rows in sequences.batches():
        inputs = sequences.inputs[rows]
        for place, part in enumerate((inputs[:, :half], inputs[:, -half:])):
            with evaluating(model), plan.autocast():
                _, state = model.hidden(torch.from_numpy(np.ascontiguousarray(part)).to(plan.device))
            for index, of in enumerate(state.blocks):
                for key, tensor in recurrent_parts(of, index):
                    found.setdefault(key, ([], []))[place].append(tensor.float().flatten(1))
    return {key: _apart(torch.cat(a), torch.cat(b)) for key, (a, b) in found.items()}


def _apart(a: Float[Tensor, "N S"], b: Float[Tensor, "N S"]) -> Float[np.ndarray, "N N"]:
    sizes = (a.double().square().sum(1)[:, None] + b.double().square().sum(1)) / 2
    squares = (2 * sizes - 2 * a.double() @ b.double().T).clamp(min=0) / sizes.clamp(min=1e-30)
    apart: np.ndarray = squares.sqrt().cpu().numpy()
    return apart
