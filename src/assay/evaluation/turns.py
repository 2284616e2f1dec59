"""Timing fairly: arms take turns, as many at once as memory holds, and the clock waits for the device."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch

from assay.evaluation.measurement import GivenArm
from assay.training.memory import training_bytes

Value = TypeVar("Value")


def in_turns(calls: Mapping[str, Callable[[], Value]], rounds: int) -> dict[str, list[Value]]:
    """{name: what each round gave}; every call has one turn a round, and each round begins with another one."""
    names = list(calls)
    given: dict[str, list[Value]] = {name: [] for name in names}
    for round_number in range(rounds):
        first = round_number % len(names) if names else 0
        for name in names[first:] + names[:first]:
            given[name].append(calls[name]())
    return given


def groups_in_memory(arms: Sequence[GivenArm], memory: int) -> Iterator[list[GivenArm]]:
    """The arms in order, as many at once as half of `memory` bytes holds while they train, at least one."""
    group: list[GivenArm] = []
    used = 0
    for arm in arms:
        needed = training_bytes(arm.architecture, arm.config, arm.training)
        if group and used + needed > memory // 2:
            yield group
            group, used = [], 0
        group.append(arm)
        used += needed
    yield group


def same_work(arm: GivenArm) -> str:
    """Equal for arms whose steps are the same work."""
    return f"{arm.architecture.name} {arm.config.model_dump_json()}"


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given; a processor always has."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
