"""What reading, generating and a training step cost each arm, by document 004's inference protocol."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from assay.analysis.growth import QUANTITIES, costs_of, crossovers
from assay.analysis.wording import join_names
from assay.evaluation.generators import generators_put_back
from assay.evaluation.inference.alternate import measure_inference
from assay.evaluation.inference.memory import memory_method
from assay.evaluation.inference.protocol import DOCUMENT_004, QUICK
from assay.evaluation.inference.reader import TimedReader
from assay.evaluation.measurement import GivenArm, GivenStudy, StudyMeasurement, register
from assay.evaluation.measurements.speed import UNSTEADY, Trainee, measure_speeds
from assay.evaluation.turns import groups_in_memory, same_work
from assay.model.architecture import build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Column, FigurePoint, MeasuredFigure
from assay.records.inference import ArmInference, Crossover, Growth, Inference, InferenceProtocol, Quantity, Timing
from assay.training.config import TrainingConfig
from assay.training.memory import available_bytes

WORDS: dict[Quantity, str] = {
    "prefill": "takes less time to read a context",
    "step": "takes less time for a token behind a context",
    "memory": "takes less memory to read a context",
}


class MeasureInference(StudyMeasurement[Inference]):
    """All arms in one process, alike ones only once; every repetition is a turn of all of them."""

    name = "inference"
    question = "What do reading and generating cost, how does that grow with the context, and where do arms cross?"
    unit = "seconds"
    group = "speed"
    rests_on = "arms"
    timed = True
    record = Inference
    protocol = DOCUMENT_004
    clock: Callable[[], float] = staticmethod(time.perf_counter)

    def measure(self, given: GivenStudy) -> Inference:
        """Arms take turns as far as memory holds them at once, else group by group."""
        first = {same_work(arm): arm for arm in reversed(given.arms)}
        distinct = [_with_training(arm, self.protocol) for arm in reversed(first.values())]
        found: dict[str, ArmInference] = {}
        together = []
        for group in groups_in_memory(distinct, available_bytes()):
            together.append([arm.label for arm in group])
            given.tell(f"inference of {', '.join(together[-1])} ({self.protocol.name})")
            found |= self._of_group(group, given)
        arms = {arm.label: found[first[same_work(arm)].label] for arm in given.arms}
        return Inference(
            protocol=self.protocol,
            device=given.plan.device,
            precision=given.plan.precision,
            threads=given.plan.threads,
            memory_method=memory_method(given.plan.device),
            together=together,
            arms=arms,
            crossovers=list(crossovers({arm.label: found[arm.label] for arm in first.values()})),
        )

    def columns(self, values: Inference) -> list[Column]:
        return [column for label, arm in values.arms.items() for column in _columns(label, arm, values.protocol)]

    def figures(self, values: Inference) -> list[MeasuredFigure]:
        return [figure for quantity in QUANTITIES for figure in _figure(quantity, values)]

    def sentences(self, values: Inference) -> list[str]:
        """The protocol, what does not apply, what was disturbed, and where arms cross."""
        return list(_sentences(values))

    def _of_group(self, group: Sequence[GivenArm], given: GivenStudy) -> dict[str, ArmInference]:
        with generators_put_back():
            readers = {
                arm.label: TimedReader(_built(arm, given.seed), given.plan, given.seed, self.clock) for arm in group
            }
            able = [arm for arm in group if readers[arm.label].room(self.protocol.prefill_tokens)]
            steps = _training_steps(able, given.plan, given.seed, given.tell, self.clock)
            given.plan.apply(next(iter(readers.values())).model)  # the threads of the plan, which training put back
            return measure_inference(readers, self.protocol, steps)


class MeasureInferenceQuickly(MeasureInference):
    """The same by a smaller protocol, for a look or a test; asked for by its own name alone."""

    name = "inference_quick"
    question = "The same as inference by a smaller protocol: what do reading and generating cost?"
    by_group = False
    protocol = QUICK


def _built(arm: GivenArm, seed: int) -> LanguageModel:
    return build_model(arm.architecture, arm.config, seed)


def _with_training(arm: GivenArm, protocol: InferenceProtocol) -> GivenArm:
    """The arm with training steps of the protocol's batch; its learning rate and optimizer stay."""
    tokens = protocol.training_batch * protocol.prefill_tokens
    asked: dict[str, Any] = {"tokens": 100 * tokens, "batch_tokens": tokens, "micro_batch_tokens": None}
    asked |= {"keep": [], "branches": []}
    training = {**arm.training.model_dump(), **asked, "context": protocol.prefill_tokens}
    return GivenArm(arm.label, arm.architecture, arm.config, TrainingConfig.parse(training))


def _training_steps(
    arms: Sequence[GivenArm], plan: ExecutionPlan, seed: int, tell: Callable[[str], None], clock: Callable[[], float]
) -> dict[str, Timing | None]:
    """Seconds of a training step of each arm."""
    trainees = {arm.label: Trainee(lambda arm=arm: _built(arm, seed), arm.training) for arm in arms}  # type: ignore[misc]
    tokens = {arm.label: arm.training.batch_tokens for arm in arms}
    return {
        label: Timing(
            median=tokens[label] / speed.tokens_per_second,
            low=tokens[label] / speed.high,
            high=tokens[label] / speed.low,
            repeats=speed.rounds,
        )
        for label, speed in measure_speeds(trainees, plan, tell, seed, clock).items()
    }


def _columns(label: str, arm: ArmInference, protocol: InferenceProtocol) -> Iterator[Column]:
    """Rates in tokens per second, with the range of the repetitions, then memory and growth."""
    tokens = protocol.prefill_tokens
    rates = (
        ("prefill", f"of {tokens:,}", arm.prefill, tokens),
        ("generation", "batch 1", arm.generation, 1),
        ("training", f"batch {protocol.training_batch}", arm.training_step, protocol.training_batch * tokens),
    )
    for key, second, seconds, count in rates:
        if seconds is None:
            yield Column(key=key, head=key, second=second, format="rate", better="higher", arm=label)
            continue
        value, low, high = (count / of for of in (seconds.median, seconds.high, seconds.low))
        yield Column(
            key=key, head=key, second=second, format="rate", value=value, low=low, high=high, better="higher", arm=label
        )
    yield Column(
        key="memory", head="peak memory", second=f"at {tokens:,}", format="bytes", value=arm.peak_bytes, better="lower",
        arm=label,
    )  # fmt: skip
    growths = (("growth", "time ~", arm.time_growth), ("memory_growth", "memory ~", arm.memory_growth))
    for key, head, growth in growths:
        yield _growth_column(key, head, growth, label)


def _growth_column(key: str, head: str, growth: Growth | None, label: str) -> Column:
    value, low, high = (None, None, None) if growth is None else (growth.exponent, growth.low, growth.high)
    return Column(
        key=key, head=head, second="context to the", format="number", value=value, low=low, high=high, better="lower",
        arm=label,
    )  # fmt: skip


def _figure(quantity: Quantity, values: Inference) -> Iterator[MeasuredFigure]:
    """One figure over the contexts; none where no arm has a value."""
    titles = {
        "prefill": ("Time to read a context", "seconds", "seconds"),
        "step": ("Time of a token behind a context", "seconds", "seconds"),
        "memory": ("Memory to read a context, without the weights", "MB", "megabytes"),
    }
    title, y_title, unit = titles[quantity]
    scale = 1e-6 if quantity == "memory" else 1.0
    points = [
        FigurePoint(x=context, y=cost.median * scale, arm=label)
        for label, arm in values.arms.items()
        for context, cost in costs_of(arm.contexts, quantity).items()
    ]
    if points:
        yield MeasuredFigure(
            name=f"context-{quantity}" if values.protocol is DOCUMENT_004 else f"context-{quantity}-quick",
            title=title,
            caption="Both axes are logarithmic: a line of slope 1 grows as the context does, one of slope 2 as its "
            "square. Medians over turns.",
            kind="lines",
            y_title=y_title,
            y_scale="log",
            x_title="context, tokens",
            x_scale="log",
            x_called="context",
            unit=unit,
            points=points,
        )


def _sentences(values: Inference) -> Iterator[str]:
    protocol = values.protocol
    if protocol.name != DOCUMENT_004.name:
        yield (
            f"Inference was measured by the {protocol.name} protocol ({protocol.prefill_tokens} tokens of prefill "
            f"{protocol.prefill_repeats} times, {protocol.generated_tokens} generated {protocol.generation_repeats} "
            f"times), not by document 004's."
        )
    yield f"Peak memory of inference is {values.memory_method}, and the weights."
    if len(values.together) > 1:
        groups = "; ".join(join_names(group) for group in values.together)
        yield f"Memory does not hold all arms at once, so that only these took turns with each other: {groups}."
    yield from dict.fromkeys(line for arm in values.arms.values() for line in arm.not_applicable)
    unsteady = [label for label, arm in values.arms.items() if _unsteady(arm)]
    if unsteady:
        yield f"Times of inference are unsteady, as something else used the machine: {join_names(unsteady)}."
    two = len({label for crossing in values.crossovers for label in crossing.arms}) == 2
    yield from (_crossing(crossing) for crossing in values.crossovers if two or crossing.context is not None)


def _unsteady(arm: ArmInference) -> bool:
    """Whether the repetitions of a prefill or a generation differ so much that most of them say little.

    Of so many the slowest alone tells nothing, so the median is held against the fastest.
    """
    return any(time is not None and time.median / time.low > UNSTEADY for time in (arm.prefill, arm.generation))


def _told(crossing: Crossover) -> bool:
    """Whether it is known at both ends which arm takes less."""
    return crossing.less_at_first is not None and crossing.less_at_last is not None


def _crossing(crossing: Crossover) -> str:
    """In words, with what the ranges leave open; of more than two arms those that cross are said alone."""
    what, last = WORDS[crossing.quantity], crossing.less_at_last
    if not _told(crossing):
        ends = (crossing.less_at_first, crossing.less_at_last)
        open_at = [f"{at:,}" for at, less in zip(crossing.contexts, ends, strict=True) if less is None]
        known = [f"; at {at:,} tokens it is {less}" for at, less in zip(crossing.contexts, ends, strict=True) if less]
        why = "they take the same" if crossing.quantity == "memory" else "their ranges overlap"
        return (
            f"Which of {join_names(crossing.arms)} {what} is not told at {join_names(open_at)} tokens, where "
            f"{why}{''.join(known)}. No crossing is told."
        )
    other = crossing.arms[1] if last == crossing.arms[0] else crossing.arms[0]
    if crossing.context is not None:
        within = ""
        if crossing.low is not None and crossing.high is not None and crossing.quantity != "memory":
            within = f" (by the ranges of their times from {crossing.low:,.0f} to {crossing.high:,.0f})"
        return f"From about {crossing.context:,.0f} tokens on{within} {last} {what} than {other}."
    low, high = crossing.contexts
    return f"{last} {what} than {other} at {low:,} tokens and at {high:,}."


register(MeasureInference())
register(MeasureInferenceQuickly())
