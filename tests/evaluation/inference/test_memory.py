"""The allocator's peak of known allocations, and of a model against what must be in it."""

import time
from typing import Any

import pytest
import torch

from assay.evaluation.inference.memory import memory_method, peak_of
from assay.evaluation.inference.reader import TimedReader
from assay.model.accounting import count_state_bytes
from evaluation.small import PLAN, tiny

MEGABYTE = 1 << 20


def test_known_allocations_give_their_peak() -> None:
    def two_at_once() -> None:
        one = torch.empty(MEGABYTE, dtype=torch.uint8)
        del one
        kept = torch.empty(2 * MEGABYTE, dtype=torch.uint8)
        other = torch.empty(3 * MEGABYTE, dtype=torch.uint8)
        del kept, other
        torch.empty(4 * MEGABYTE, dtype=torch.uint8)

    assert peak_of(two_at_once, "cpu") == 5 * MEGABYTE
    before = torch.empty(MEGABYTE, dtype=torch.uint8)
    assert peak_of(lambda: before.fill_(1), "cpu") == 0, "what was there before is not counted"
    assert "CPU allocator" in memory_method("cpu")
    assert peak_of(two_at_once, "mps") is None


def test_the_profiler_is_off_again_where_the_call_fails() -> None:
    def fails() -> None:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        peak_of(fails, "cpu")
    assert peak_of(lambda: torch.empty(MEGABYTE, dtype=torch.uint8), "cpu") == MEGABYTE


@pytest.mark.parametrize("name", ["gpt1", "mamba2"])
def test_a_models_peak_holds_its_state_and_follows_from_its_shapes_alone(name: str) -> None:
    model = tiny(name)
    reader = TimedReader(model, PLAN, 0, lambda: 0.0)
    peaks = [reader.working_bytes(64) for _ in range(3)]
    assert len(set(peaks)) == 1
    assert peaks[0] is not None
    assert peaks[0] >= count_state_bytes(model, 64, 4)
    longer = reader.working_bytes(256)
    assert longer is not None
    assert longer > peaks[0]
    assert reader.weight_bytes() >= 4 * sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["gpt1", "sliding-window", "groundthink", "mamba2"])
def test_models_read_and_step_in_the_plans_precision(name: str) -> None:
    """Buffers of keys and values have the type of what is written into them, so that they take half the bytes."""
    plan = PLAN.model_copy(update={"precision": "bfloat16"})
    seconds = TimedReader(tiny(name), plan, 0, time.perf_counter).at(40, 4)
    assert seconds.prefill > 0
    assert seconds.step is not None
    if name == "gpt1":
        with plan.autocast():
            state = tiny(name).initial_state(1, 64)
        assert {tensor.dtype for layer in state for tensor in tensors_of(layer)} == {torch.bfloat16}


def tensors_of(state: Any) -> list[torch.Tensor]:
    """All tensors in a nest of tuples."""
    if isinstance(state, torch.Tensor):
        return [state]
    return [tensor for part in state for tensor in tensors_of(part)] if isinstance(state, tuple | list) else []
