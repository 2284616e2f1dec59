"""What a study is: its configuration, and the arms, data and plan that it resolves to before the first step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from assay.config import Config
from assay.data.config import DataConfig
from assay.data.prepare import TokenizedCorpus, prepare
from assay.errors import RequestError
from assay.model.accounting import count_parameters
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig
from assay.model.sizing import Decoding, build_on_meta, solve
from assay.records import Match
from assay.registry import suggestion
from assay.training.config import ExecutionConfig, TrainingConfig
from assay.training.plan import ExecutionPlan, memory_bytes, resolve_plan

DEFAULT_SIZE = 1_000_000


class EvaluationConfig(Config):
    """How much held-out text is scored at the end; whole windows in a fixed random order up to the cap."""

    test_tokens: int | None = Field(32_768, gt=0)
    """Tokens of the test split that are scored; None is all of it."""
    signal_windows: int = Field(8, gt=0)
    """Validation windows on which signals are measured."""


class StudyConfig(Config):
    """Everything that decides a study's numbers; the resolved copy lies beside its results."""

    version: Literal[1] = 1
    architectures: list[str] = Field(["gpt1", "rwkv6", "mamba2"], min_length=1)
    size: int | None = Field(None, gt=0, le=100_000_000_000)
    """How much of `match`: a million unless `model` sets a width or depth; None keeps published dimensions."""
    match: Match = "total"
    model: dict[str, Any] = {}
    """Dimensions set for every arm, such as body or initialisation; those of one arm stand under its name."""
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    execution: ExecutionConfig = ExecutionConfig()
    plan: ExecutionPlan | None = None
    """What `execution` was resolved to. assay writes it; a resume and a repetition by --config obey it."""

    @model_validator(mode="before")
    @classmethod
    def _default_size(cls, values: dict[str, Any]) -> dict[str, Any]:
        if "size" in values or {"d_model", "n_layers"} & _all_keys(values.get("model")):
            return values
        return {**values, "size": DEFAULT_SIZE}

    @field_validator("architectures", "seeds")
    @classmethod
    def _no_repeats(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) != len(values):
            raise ValueError("must not repeat itself")
        return values

    @field_validator("seeds")
    @classmethod
    def _seeds_not_negative(cls, values: list[int]) -> list[int]:
        if min(values) < 0:
            raise ValueError("must be zero or more")
        return values

    def identity(self) -> str:
        """A hash of all that was asked; the plan, which the machine decides, is not part of it."""
        return self.model_copy(update={"plan": None}).digest()


def _all_keys(model: Any) -> set[str]:
    if not isinstance(model, dict):
        return set()
    return set(model) | {key for value in model.values() if isinstance(value, dict) for key in value}


@dataclass(frozen=True)
class Arm:
    """One architecture with its dimensions solved."""

    architecture: Architecture
    config: ModelConfig


@dataclass(frozen=True)
class Study:
    """A configuration with everything resolved that must be known before the first step."""

    config: StudyConfig
    arms: list[Arm]
    corpus: TokenizedCorpus
    plan: ExecutionPlan


def resolve(config: StudyConfig, tell: Callable[[str], None]) -> Study:
    """Resolve arms, data and plan; whatever cannot work is a RequestError now and not after an hour."""
    architectures = [ARCHITECTURES.get(name) for name in config.architectures]
    plan = config.plan or resolve_plan(config.execution, tell)
    corpus = prepare(config.data, tell)
    _refuse_short_splits(corpus, config.training.context)
    training = config.training
    if training.tokens % training.batch_tokens:
        whole = training.steps * training.batch_tokens
        tell(f"--tokens {training.tokens:,}: rounded up to {whole:,}, whole batches of {training.batch_tokens:,}")
    decoding = Decoding(training.context, plan.bytes_per_element)
    arms = [resolve_arm(architecture, config, corpus.tokenizer.vocab_size, decoding) for architecture in architectures]
    for arm in arms:
        _refuse_large(arm, plan.device)
    return Study(config, arms, corpus, plan)


def _refuse_short_splits(corpus: TokenizedCorpus, context: int) -> None:
    """Raise a RequestError where a split does not hold one whole context."""
    for name in ("train", "validation", "test"):
        tokens = len(corpus.split(name).ids)
        if tokens <= context:
            raise RequestError(
                f"--context {context}: the {name} split of --corpus {corpus.name} has {tokens} tokens; "
                f"a longer text or --context {max(2, tokens // 2)} would do"
            )


def _refuse_large(arm: Arm, device: str) -> None:
    """Raise a RequestError where float32 weights, their gradients and AdamW's two moments alone exceed the memory."""
    size = count_parameters(build_on_meta(arm.architecture, arm.config)).total
    memory = memory_bytes(device)
    if memory is not None and 16 * size > memory:
        raise RequestError(
            f"--size: training {arm.architecture.name} of {size:,} parameters takes over {16 * size / 1e9:,.0f} GB, "
            f"and {device} has {memory / 1e9:,.0f} GB; {memory // 64_000_000}M would do"
        )


def resolve_arm(architecture: Architecture, config: StudyConfig, vocab_size: int, decoding: Decoding) -> Arm:
    """Solve the arm's dimensions and check that it can read the study's context."""
    fixed = arm_dimensions(architecture, config)
    if fixed.setdefault("vocab_size", vocab_size) != vocab_size:
        asked = fixed["vocab_size"]
        raise RequestError(f"model.vocab_size: {asked} given, the tokenizer has {vocab_size}; leave it to --tokenizer")
    model = size_arm(architecture, config, fixed, decoding)
    positions = architecture.max_positions(model)
    if positions is not None and config.training.context > positions:
        raise RequestError(
            f"--context {config.training.context}: {architecture.name} has {positions} positions; "
            f"give at most that, or --set model.{architecture.name}.max_positions={config.training.context}"
        )
    return Arm(architecture, model)


def size_arm(architecture: Architecture, config: StudyConfig, fixed: dict[str, Any], decoding: Decoding) -> ModelConfig:
    """The arm's dimensions: `fixed` ones over the published, or solved for the study's size."""
    if config.size is None:
        return architecture.config.parse(fixed)
    return solve(architecture, config.size, config.match, fixed, decoding)


def arm_dimensions(architecture: Architecture, config: StudyConfig) -> dict[str, Any]:
    """The dimensions set for this arm: those of all arms and those under its name; unknown ones are a RequestError."""
    known = architecture.config.model_fields
    fields = {field for name in config.architectures for field in ARCHITECTURES.get(name).config.model_fields}
    arms = {name: values for name, values in config.model.items() if isinstance(values, dict) and name not in fields}
    common = {name: value for name, value in config.model.items() if name not in arms}
    for name in arms:
        if name not in config.architectures:
            raise RequestError(f"model.{name}: no arm of this study; {suggestion(name, config.architectures)}")
    own = arms.get(architecture.name, {})
    for name in {**common, **own}:
        if name in known:
            continue
        if any(name in ARCHITECTURES.get(other).config.model_fields for other in config.architectures):
            one = next(a for a in config.architectures if name in ARCHITECTURES.get(a).config.model_fields)
            raise RequestError(
                f"model.{name}: {architecture.name} has none; --set model.{one}.{name}=... sets one arm's"
            )
        raise RequestError(f"model.{name}: unknown key for {architecture.name}; {suggestion(name, list(known))}")
    return {**common, **own}
