"""The memory stages of a gate: every arm is trained on a small task that only memory solves, and asked for answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from assay.analysis.gate.memory import MEASURED_BY
from assay.analysis.wording import join_names
from assay.data.config import DataConfig
from assay.errors import RequestError
from assay.gating.asked import DECAY_SHARE
from assay.records.gate import MemoryKind, Stage
from assay.study.arm import ArmConfig
from assay.study.asked import StudyConfig
from assay.study.resolve import resolve


@dataclass(frozen=True)
class MemoryTask:
    """How one kind of memory is trained and asked for; bytes are its tokens, whatever the gate's tokenizer is."""

    task: str
    context: int
    sequences: int
    """Of a batch."""
    tokens: int
    """That a run reads, at most."""
    scored: int
    """Targets of the test split that are scored; `choices` asks some 300 needles beside them."""

    @property
    def batch_tokens(self) -> int:
        """Of one step."""
        return self.sequences * self.context


MEMORY_TASKS: Mapping[MemoryKind, MemoryTask] = {
    "recall": MemoryTask("mqar:pairs=2,vocab=16", context=16, sequences=32, tokens=1_024_000, scored=8_192),
    "statefulness": MemoryTask("needle:distractors=4", context=144, sequences=16, tokens=691_200, scored=2_048),
}


def memory_tokens(kind: MemoryKind, most: int) -> int:
    """What a run reads, in whole batches: what the task needs, and no more than `most`, a judged run's."""
    task = MEMORY_TASKS[kind]
    return max(1, min(task.tokens, most) // task.batch_tokens) * task.batch_tokens


def memory_study(
    stage: Stage, arms: Mapping[str, ArmConfig], rates: Mapping[str, float], base: StudyConfig
) -> StudyConfig:
    """The study of a memory stage. Each arm has the learning rate that tuning on text found at this size."""
    kind = stage.kind
    if kind != "recall" and kind != "statefulness":
        raise ValueError(f"{kind} is no memory stage")
    task = MEMORY_TASKS[kind]
    steps = max(1, stage.tokens // task.batch_tokens)
    own = []
    for label in stage.arms:
        rate = rates[label]
        training = {**arms[label].training, "learning_rate": rate, "weight_decay": 1 / (DECAY_SHARE * rate * steps)}
        own.append(arms[label].model_copy(update={"label": label, "training": training}))
    update: dict[str, object] = {
        "tokens": stage.tokens,
        "batch_tokens": task.batch_tokens,
        "context": task.context,
        "micro_batch_tokens": None,
    }
    return base.model_copy(
        update={
            "arms": own,
            "size": stage.size,
            "sizes": [],
            "seeds": list(stage.seeds),
            "data": DataConfig.parse({"task": task.task}),
            "training": base.training.model_copy(update=update),
            "evaluation": base.evaluation.model_copy(update={"test_tokens": task.scored}),
            "measurements": ["likelihood", MEASURED_BY[kind]],
        }
    )


def untuned_study(
    kind: MemoryKind, steps: int, arms: Mapping[str, ArmConfig], seed: int, size: int, base: StudyConfig
) -> StudyConfig:
    """So many steps of a task with the rate that arms have before they are tuned, to time it or to see if it can be."""
    tokens = steps * MEMORY_TASKS[kind].batch_tokens
    stage = Stage(name=kind, kind=kind, size=size, tokens=tokens, arms=list(arms), seeds=[seed], flops=0, seconds=0)
    return memory_study(stage, arms, dict.fromkeys(arms, base.training.learning_rate), base)


def possible_tasks(
    kinds: Sequence[MemoryKind],
    arms: Mapping[str, ArmConfig],
    size: int,
    base: StudyConfig,
    tell: Callable[[str], None],
) -> list[MemoryKind]:
    """Those of `kinds` that every arm can be trained on at `size`; of the others a line says why they are left out."""
    found = []
    for kind in kinds:
        try:
            resolve(untuned_study(kind, 1, arms, 0, size, base), lambda _: None)
        except RequestError as error:
            tell(f"{kind} is not measured, as {join_names(list(arms))} cannot all have its task: {error}")
        else:
            found.append(kind)
    return found
