"""Which sizes a budget pays for: the largest ladder of factor two that fits."""

from collections.abc import Callable, Sequence

from assay.analysis.wording import short
from assay.data.dataset import load_dataset
from assay.errors import RequestError
from assay.gating.asked import Budget, GateRequest
from assay.gating.layout import Cost, Shape, lay_out, top_of, total
from assay.gating.stages import arms_of
from assay.gating.timing import Times
from assay.study.asked import StudyConfig
from assay.study.resolve import resolve

NICE = (1.0, 1.1, 1.25, 1.4, 1.6, 1.8, 2.0, 2.25, 2.5, 2.8, 3.2, 3.6, 4.0, 4.5, 5.0, 5.6, 6.4, 7.2, 8.0, 9.0)
"""Leading digits of sizes: the ladder of the next one costs a quarter more, so that little of a budget is unused."""
FURTHER = 6
"""So many times the least size the second timing is at."""
MOST_REFUSED = 8
"""Sizes in a row: a factor of 2.5."""
MOST_TIMINGS = 3
"""Of ladders that the timing of the one before had led to."""
SMALLEST, LARGEST = 8_000, 100_000_000_000
RESERVE = 0.9
"""Of the budget that is planned with; the rest is for what a short timing cannot know."""


def rungs_for(budget: Budget) -> int:
    """How many sizes the candidates have: more only where the largest stays worth it."""
    seconds = budget.seconds or 0.0
    flops = budget.flops or 0.0
    if seconds >= 6 * 3600 or flops >= 1e16:
        return 4
    return 3 if seconds >= 3600 or flops >= 1e15 else 2


def seeds_for(budget: Budget | None) -> int:
    """Three where time is short, five otherwise."""
    short_time = budget is not None and (budget.seconds or 0) < 3600 and (budget.flops or 0) < 1e15
    return 3 if short_time else 5


def nice_sizes() -> list[int]:
    """8k, 10k, 12.5k, ... ascending."""
    of = [round(digit * 10**power) for power in range(3, 11) for digit in NICE]
    return [size for size in of if SMALLEST <= size <= LARGEST]


def ladder_up_to(largest: int, rungs: int) -> list[int]:
    """Halved from the largest, ascending."""
    return [largest >> (rungs - 1 - at) for at in range(rungs)]


def least_size(request: GateRequest, base: StudyConfig, at_least: int = SMALLEST) -> int:
    """The smallest of the nice sizes from `at_least` on that every arm can have."""
    arms = [arm for label, arm in arms_of(request).items() if label in _named(request)]
    load_dataset(base.data, lambda _: None)  # what is wrong with the data is no matter of size
    why = ""
    for size in nice_sizes():
        if size < at_least:
            continue
        config = base.model_copy(update={"arms": arms, "size": size, "sizes": [], "seeds": [0]})
        try:
            resolve(config, lambda _: None)
        except RequestError as error:
            why = str(error)
            continue
        return size
    raise RequestError(f"--sizes: no size was found that every arm can have: {why}")


def refuse_sizes(request: GateRequest, base: StudyConfig) -> None:
    """Raise a RequestError where an arm cannot have a size that was given, or the baseline the further one."""
    known, sizes = arms_of(request), sorted(request.sizes)
    asked = [(label, size) for size in sizes for label in _named(request)]
    for label, size in [*asked, (request.baseline.label, top_of(sizes))]:
        config = base.model_copy(update={"arms": [known[label]], "size": size, "sizes": [], "seeds": [0]})
        try:
            resolve(config, lambda _: None)
        except RequestError as error:
            raise RequestError(str(error).replace("--size ", "--sizes ", 1)) from None


def choose_sizes(request: GateRequest, shape: Shape, times: Times, base: StudyConfig) -> list[int]:
    """The largest ladder within the budget; a budget too small for the least is a RequestError that says what is."""
    budget = request.budget
    if budget is None:
        raise ValueError("sizes are chosen by a budget")
    rungs = rungs_for(budget)
    lowest = least_size(request, base)
    known = [size for size in nice_sizes() if size >> (rungs - 1) >= lowest]
    times.measure([lowest, least_size(request, base, FURTHER * lowest)], [shape.baseline, *shape.candidates])

    def chosen() -> list[int]:
        most = largest(known, lambda size: _fits(cost_of(shape, ladder_up_to(size, rungs), times), budget))
        return ladder_up_to(most, rungs)

    sizes = chosen()
    for _ in range(MOST_TIMINGS):  # timing at the chosen sizes may change the choice
        known_before = len(times.timed)
        measure_ladder(shape, sizes, times)
        if len(times.timed) == known_before:
            break
        sizes = chosen()
    refuse_budget(cost_of(shape, sizes, times), budget, sizes)
    measure_ladder(shape, sizes, times)  # for the record, where the last choice was another once more
    return sizes


def measure_ladder(shape: Shape, sizes: Sequence[int], times: Times) -> None:
    """Time every arm at its sizes, and at the smallest on the memory tasks, where that was not done yet."""
    arms = [shape.baseline, *shape.candidates]
    times.measure(sizes, arms)
    times.measure([top_of(sizes)], [shape.baseline])
    times.measure_memory(shape.memory, sizes[0], arms)


def largest(sizes: Sequence[int], fits: Callable[[int], bool]) -> int:
    """The last of the ascending `sizes` before the first that does not fit; the least possible one where none does.

    Sizes that some arm cannot have are passed over; where several in a row are, they are too large for this machine.
    """
    found: int | None = None
    refused: list[RequestError] = []
    for size in sizes:
        try:
            within = fits(size)
        except RequestError as error:
            refused.append(error)
            if len(refused) == MOST_REFUSED:
                break
            continue
        refused = []
        if found is None or within:
            found = size
        if not within:
            break
    if found is None:
        raise refused[-1]
    return found


def cost_of(shape: Shape, sizes: Sequence[int], times: Times) -> Cost:
    """Of a gate at these sizes."""
    return total(lay_out(shape, sizes, times.cost))


def _fits(cost: Cost, budget: Budget) -> bool:
    if budget.seconds is not None:
        return cost.seconds <= RESERVE * budget.seconds
    return cost.flops <= (budget.flops or 0.0)


def refuse_budget(cost: Cost, budget: Budget, sizes: Sequence[int]) -> None:
    """Raise a RequestError that names the least budget, where these sizes do not fit."""
    if _fits(cost, budget):
        return
    least = f"{cost.flops * 1.01:.2g}flops" if budget.flops else _time(cost.seconds / RESERVE)
    names = ", ".join(map(short, sizes))
    raise RequestError(f"--budget {budget.text}: too small for the sizes {names}; {least} would do")


def _time(seconds: float) -> str:
    return f"{-(-seconds // 60):.0f}m" if seconds < 2 * 3600 else f"{seconds / 3600 + 0.05:.1f}h"


def _named(request: GateRequest) -> list[str]:
    return [request.baseline.label, *(arm.label for arm in request.candidates)]
