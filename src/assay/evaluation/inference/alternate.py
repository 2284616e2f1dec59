"""The protocol carried out on several models that take turns: every repetition is a turn of all."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from assay.analysis.growth import costs_of, fit_growth
from assay.evaluation.inference.reader import Seconds, TimedReader
from assay.evaluation.turns import in_turns
from assay.records.inference import ArmInference, AtContext, InferenceProtocol, Timing

Readers = Mapping[str, TimedReader]


def measure_inference(
    readers: Readers, protocol: InferenceProtocol, steps: Mapping[str, Timing | None]
) -> dict[str, ArmInference]:
    """The costs of every model; `steps` are the training steps, which are timed elsewhere.

    Each call is made once before it is counted. A model whose learned positions do not suffice for something takes no
    turn there.
    """
    prefills = _turns(
        {name: partial(reader.prefill, protocol.prefill_tokens) for name, reader in _with_room(readers, protocol)},
        protocol.prefill_repeats,
    )
    longest = 1 + protocol.generated_tokens
    generations = _turns(
        {
            name: partial(reader.generate, protocol.generated_tokens)
            for name, reader in readers.items()
            if reader.room(longest)
        },
        protocol.generation_repeats,
    )
    points = _at_contexts(readers, protocol)
    return {
        name: _arm(name, reader, protocol, prefills.get(name), generations.get(name), steps.get(name), points[name])
        for name, reader in readers.items()
    }


def timing(seconds: Sequence[float]) -> Timing:
    """Median and range."""
    return Timing(median=statistics.median(seconds), low=min(seconds), high=max(seconds), repeats=len(seconds))


def _with_room(readers: Readers, protocol: InferenceProtocol) -> list[tuple[str, TimedReader]]:
    return [(name, reader) for name, reader in readers.items() if reader.room(protocol.prefill_tokens)]


def _turns(calls: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Timing]:
    for call in calls.values():
        call()
    return {name: timing(seconds) for name, seconds in in_turns(calls, rounds).items()}


def _at_contexts(readers: Readers, protocol: InferenceProtocol) -> dict[str, list[AtContext]]:
    points: dict[str, list[AtContext]] = {name: [] for name in readers}
    for context in protocol.contexts:
        calls: dict[str, Callable[[], Seconds]] = {
            name: partial(reader.at, context, protocol.step_tokens)
            for name, reader in readers.items()
            if reader.room(context)
        }
        sizes = {name: readers[name].working_bytes(context) for name in calls}  # also the reading that is not counted
        for name, seconds in in_turns(calls, protocol.context_repeats).items():
            steps = [each.step for each in seconds if each.step is not None]
            points[name].append(
                AtContext(
                    context=context,
                    prefill=timing([each.prefill for each in seconds]),
                    step=timing(steps) if steps else None,
                    working_bytes=sizes[name],
                )
            )
    return points


def _arm(
    name: str,
    reader: TimedReader,
    protocol: InferenceProtocol,
    prefill: Timing | None,
    generation: Timing | None,
    step: Timing | None,
    points: list[AtContext],
) -> ArmInference:
    working = None if prefill is None else reader.working_bytes(protocol.prefill_tokens)
    weights = reader.weight_bytes()
    growths = [
        fit_growth({context: cost.median for context, cost in costs_of(points, quantity).items()})
        for quantity in ("prefill", "step", "memory")
    ]
    return ArmInference(
        prefill=prefill,
        generation=generation,
        training_step=step,
        weight_bytes=weights,
        peak_bytes=None if working is None else weights + working,
        contexts=points,
        time_growth=growths[0],
        step_growth=growths[1],
        memory_growth=growths[2],
        not_applicable=list(_not_applicable(name, reader, protocol)),
    )


def _not_applicable(name: str, reader: TimedReader, protocol: InferenceProtocol) -> list[str]:
    """What the model has no positions for, in one sentence."""
    missing = []
    if not reader.room(protocol.prefill_tokens):
        missing.append(f"a prefill and a training step of {protocol.prefill_tokens:,} tokens")
    if not reader.room(1 + protocol.generated_tokens):
        missing.append(f"the generation of {protocol.generated_tokens:,}")
    beyond = [f"{context:,}" for context in protocol.contexts if not reader.room(context)]
    if beyond:
        missing.append(f"contexts of {', '.join(beyond)}")
    if not missing:
        return []
    return [f"{name} has {reader.model.max_positions:,} learned positions: not applicable are {'; '.join(missing)}."]
