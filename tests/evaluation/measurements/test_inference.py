"""The inference protocol: turns, medians, what does not apply, what is said; one run by the real clock."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest
import torch

from assay.evaluation.inference.alternate import measure_inference
from assay.evaluation.inference.protocol import DOCUMENT_004, QUICK
from assay.evaluation.inference.reader import TimedReader
from assay.evaluation.measurement import MEASUREMENTS, GivenArm, GivenStudy, expanded
from assay.evaluation.measurements.inference import MeasureInference
from assay.evaluation.turns import in_turns
from assay.model.architecture import ARCHITECTURES
from assay.records.inference import Crossover, Inference, InferenceProtocol
from assay.training.config import TrainingConfig
from evaluation.small import PLAN, tiny

SMALL = InferenceProtocol(
    name="small", prefill_tokens=16, prefill_repeats=4, generated_tokens=8, generation_repeats=3, contexts=[8, 16, 32],
    context_repeats=3, step_tokens=2, training_batch=8,
)  # fmt: skip


class Small(MeasureInference):
    """The measurement by a protocol for tests."""

    name = "small"
    protocol = SMALL


class Clock:
    """Each token that a model reads takes as many seconds as the model is slow."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[tuple[str, int]] = []

    def __call__(self) -> float:
        return self.now

    def reader(self, name: str, slowness: float, architecture: str = "mamba2", **dimensions: object) -> TimedReader:
        model = tiny(architecture, **dimensions)

        def tick(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            self.now += slowness * inputs[0].numel()
            self.order.append((name, inputs[0].numel()))

        model.embedding.register_forward_pre_hook(tick)
        return TimedReader(model, PLAN, 0, self)


def arms(names: Mapping[str, str], **dimensions: object) -> list[GivenArm]:
    def config(name: str) -> Any:
        architecture = ARCHITECTURES.get(name)
        own = {key: value for key, value in dimensions.items() if key in architecture.config.model_fields}
        return architecture.config.parse({**architecture.tiny, **own})

    return [GivenArm(label, ARCHITECTURES.get(name), config(name), TrainingConfig()) for label, name in names.items()]


def test_rounds_begin_with_another_call_each_time() -> None:
    order: list[str] = []
    counts = in_turns({name: partial(order.append, name) for name in "abc"}, 4)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert {name: len(of) for name, of in counts.items()} == {"a": 4, "b": 4, "c": 4}
    assert in_turns({}, 3) == {}


def test_the_documents_numbers() -> None:
    protocol = DOCUMENT_004
    assert (protocol.prefill_tokens, protocol.prefill_repeats) == (1024, 100)
    assert (protocol.generated_tokens, protocol.generation_repeats, protocol.training_batch) == (256, 10, 8)
    assert protocol.contexts == [256, 512, 1024, 2048, 4096, 8192]


def test_every_repetition_is_a_turn_of_all_arms_and_seconds_are_the_models_own() -> None:
    clock = Clock()
    readers = {"fast": clock.reader("fast", 1.0), "slow": clock.reader("slow", 3.0)}
    found = measure_inference(readers, SMALL, {})
    assert (found["fast"].prefill, found["slow"].prefill) != (None, None)
    for name, factor in (("fast", 1), ("slow", 3)):
        arm = found[name]
        assert arm.prefill is not None
        assert arm.generation is not None
        assert (arm.prefill.median, arm.prefill.repeats) == (16 * factor, 4)
        assert (arm.generation.median, arm.generation.repeats) == (factor, 3)
        assert [point.prefill.median for point in arm.contexts] == [8 * factor, 16 * factor, 32 * factor]
        assert [point.step.median for point in arm.contexts if point.step] == [factor] * 3
        assert arm.time_growth is not None
        assert arm.time_growth.exponent == pytest.approx(1)
        assert arm.step_growth is not None
        assert arm.step_growth.exponent == pytest.approx(0)
    prefills = "".join(name[0] for name, _ in clock.order[2:10])
    assert prefills == "fs" + "sf" + "fs" + "sf"


def test_learned_positions_end_what_applies() -> None:
    clock = Clock()
    readers = {
        "all": clock.reader("all", 1.0),
        "some": clock.reader("some", 1.0, "gpt2", max_positions=17),
        "few": clock.reader("few", 1.0, "gpt2", max_positions=8),
    }
    found = measure_inference(readers, SMALL, {})
    assert [len(found[name].contexts) for name in readers] == [3, 2, 1]
    assert found["some"].prefill is not None
    assert found["some"].contexts[1].step is None, "17 positions: 16, and one of the two tokens behind"
    few = found["few"]
    assert (few.prefill, few.generation, few.peak_bytes, few.time_growth) == (None, None, None, None)
    assert found["all"].not_applicable == []
    assert found["some"].not_applicable == ["some has 17 learned positions: not applicable are contexts of 32."]
    assert few.not_applicable == [
        "few has 8 learned positions: not applicable are a prefill and a training step of 16 tokens; the generation of "
        "8; contexts of 16, 32."
    ]


@pytest.fixture(scope="module")
def measured() -> Iterator[Inference]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.evaluation.measurements.speed.BURST_SECONDS", 0.01)
        of = arms({"recurrent": "mamba2", "again": "mamba2", "short": "gpt2"}, max_positions=16)
        yield Small().measure(GivenStudy(of, PLAN, 0, lambda _: None))


def test_all_arms_by_the_real_clock(measured: Inference) -> None:
    assert list(measured.arms) == ["recurrent", "again", "short"]
    assert measured.together == [["recurrent", "short"]], "arms that are alike are measured once"
    assert measured.arms["again"] == measured.arms["recurrent"]
    arm = measured.arms["recurrent"]
    assert arm.prefill is not None
    assert arm.training_step is not None
    assert arm.peak_bytes is not None
    assert 0 < arm.prefill.low <= arm.prefill.median <= arm.prefill.high
    assert arm.training_step.median > 0
    assert arm.peak_bytes > arm.weight_bytes > 0
    assert Inference.model_validate_json(measured.model_dump_json()) == measured


def test_what_is_shown(measured: Inference) -> None:
    item = Small()
    columns = {(column.arm, column.key): column for column in item.columns(measured)}
    assert {key for _, key in columns} == {
        "prefill", "generation", "training", "memory", "growth", "memory_growth",
    }  # fmt: skip
    rate = columns["recurrent", "prefill"]
    assert rate.value is not None
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low <= rate.value <= rate.high
    assert [figure.name for figure in item.figures(measured)] == [
        "context-prefill-quick", "context-step-quick", "context-memory-quick",
    ]  # fmt: skip
    said = item.sentences(measured)
    assert said[0].startswith("Inference was measured by the small protocol (16 tokens of prefill 4 times")
    assert any(line.startswith("short has 16 learned positions") for line in said)
    document = measured.model_copy(update={"protocol": DOCUMENT_004})
    assert not any("protocol" in line for line in item.sentences(document))


def test_of_more_than_two_arms_only_those_that_cross_are_said(measured: Inference) -> None:
    def crossing(a: str, b: str, context: float | None) -> Crossover:
        last = b if context else a
        return Crossover(
            quantity="prefill", less_at_first=a, less_at_last=last, arms=(a, b), contexts=(8, 32), context=context
        )

    def said(*crossovers: Crossover) -> list[str]:
        lines = Small().sentences(measured.model_copy(update={"crossovers": list(crossovers)}))
        return [line for line in lines if "less time" in line]

    assert said(crossing("a", "b", None)) == ["a takes less time to read a context than b at 8 tokens and at 32."]
    assert said(crossing("a", "b", None), crossing("a", "c", 12.3)) == [
        "From about 12 tokens on c takes less time to read a context than a."
    ]
    unknown = crossing("a", "b", None).model_copy(update={"less_at_last": None})
    assert said(unknown) == [
        "Which of a and b takes less time to read a context is not told at 32 tokens, where their ranges overlap; at 8 "
        "tokens it is a. No crossing is told."
    ]
    ranged = crossing("a", "b", 12.3).model_copy(update={"low": 10.0, "high": 16.2})
    assert said(ranged) == [
        "From about 12 tokens on (by the ranges of their times from 10 to 16) b takes less time to read a context "
        "than a."
    ]


def test_a_name_of_a_group_brings_the_document_and_not_the_quick_protocol() -> None:
    assert expanded(["speed"], groups_first=True) == ["inference", "speed"]
    assert expanded(["speed"]) == ["speed"]
    assert expanded(["inference_quick"], groups_first=True) == ["inference_quick"]
    quick = MEASUREMENTS.get("inference_quick")
    assert isinstance(quick, MeasureInference)
    assert quick.protocol is QUICK
    assert [item.name for item in MEASUREMENTS if item.timed] == ["inference", "inference_quick", "speed"]
