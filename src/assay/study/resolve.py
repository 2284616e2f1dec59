"""Resolves a request to what is run: arms with all their dimensions, data, plan, and a spec for each arm and seed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.data.dataset import Dataset, load_dataset
from assay.data.task import in_words
from assay.data.text.elsewhere import refuse_unknown
from assay.errors import RequestError
from assay.evaluation.measurement import Measurement, StudyMeasurement, expanded, named
from assay.model.accounting import count_flops, count_parameters
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan, memory_bytes, refuse_missing_device, resolve_plan
from assay.model.sizing import Decoding, build_on_meta, refuse_without_flops, solve
from assay.records.results import LIKELIHOOD, TEXTS
from assay.registry import suggestion
from assay.study.arm import ArmConfig
from assay.study.asked import PluginFile, StudyConfig
from assay.study.machine import compiles_at_once, threads_at_once
from assay.study.sources import arm_plugins, measurement_plugins
from assay.study.spec import Spec, folder_name
from assay.training.config import OptimizerName, TrainingConfig


@dataclass(frozen=True)
class ResolvedArm:
    """An arm with all its dimensions and settings resolved."""

    label: str
    group: str
    size: int | None
    architecture: Architecture
    config: ModelConfig
    training: TrainingConfig
    replicate: int
    plugins: Mapping[str, str]
    """{name of a plug-in that it needs: digest}."""


@dataclass(frozen=True)
class Study:
    """A study's configuration with arms, data and plan resolved, as must be known before the first step."""

    config: StudyConfig
    arms: list[ResolvedArm]
    dataset: Dataset
    plan: ExecutionPlan

    def spec(self, arm: ResolvedArm, seed: int) -> Spec:
        """Everything that decides the numbers of the run of `arm` with `seed`."""
        return Spec(
            architecture=arm.architecture.name,
            model=arm.config.model_dump(mode="json"),
            data=self.config.data,
            corpus_digest=self.dataset.digest,
            training=arm.training,
            evaluation=self.config.evaluation,
            seed=seed,
            replicate=arm.replicate,
            plugins=dict(arm.plugins),
        )

    def digest(self, arm: ResolvedArm, seed: int) -> str:
        """The digest of the run's spec, which identifies the run."""
        return self.spec(arm, seed).digest_against(arm.architecture.config)

    def run_name(self, arm: ResolvedArm, seed: int) -> str:
        """The name of the run's folder."""
        return folder_name(arm.label, seed, self.digest(arm, seed))

    def models_on_meta(self) -> list[LanguageModel]:
        """The models of all arms, without weights."""
        return [build_on_meta(arm.architecture, arm.config) for arm in self.arms]

    def optimizers(self) -> set[OptimizerName]:
        """The optimizers of all arms."""
        return {arm.training.optimizer for arm in self.arms}

    def of_runs(self) -> list[Measurement[Any]]:
        """What is measured of every run."""
        return [item for item in named(self.config.measurements) if isinstance(item, Measurement)]

    def of_study(self) -> list[StudyMeasurement[Any]]:
        """What is measured of all arms at once."""
        return [item for item in named(self.config.measurements) if isinstance(item, StudyMeasurement)]

    def run_config(self, arm: ResolvedArm, seed: int) -> StudyConfig:
        """The resolved configuration of one run: what `assay train --config` needs to carry it out anywhere."""
        dimensions = {name: value for name, value in arm.config.model_dump(mode="json").items() if value is not None}
        needed = {*arm.plugins, *measurement_plugins(self.of_runs())}
        one = ArmConfig(label=arm.label, architecture=arm.architecture.name, model=dimensions, replicate=arm.replicate)
        return StudyConfig(
            kind="run",
            arms=[one],
            size=None,
            seeds=[seed],
            match=self.config.match,
            data=self.config.data.absolute(),
            training=arm.training,
            evaluation=self.config.evaluation,
            measurements=[measurement.name for measurement in self.of_runs()],
            execution=self.config.execution,
            plugins=_absolute(plugin for plugin in self.config.plugins if Path(plugin.path).name in needed),
            plan=self.plan,
            corpus_digest=self.dataset.digest,
            needs=dict(arm.plugins),
        )


def _absolute(plugins: Iterable[PluginFile]) -> list[PluginFile]:
    """`plugins` with absolute paths, which mean the same in every working folder."""
    return [plugin.model_copy(update={"path": str(Path(plugin.path).resolve())}) for plugin in plugins]


def resolve(config: StudyConfig, tell: Callable[[str], None]) -> Study:
    """Resolve arms, data and plan; whatever cannot work is a RequestError here, before any run begins."""
    config = with_measurements(config)
    plan = config.plan or resolve_plan(config.execution, tell)
    refuse_missing_device(plan.device)
    _refuse_budget(config)
    dataset = load_dataset(config.data, tell)
    refuse_other_data(config, dataset)
    if TEXTS in config.measurements:
        for corpus in config.evaluation.texts:
            refuse_unknown(corpus)
    training = config.training
    dataset.refuse(training.context, training.order, config.evaluation.test_tokens, training.batch_size)
    if training.tokens % training.batch_tokens:
        whole = training.steps * training.batch_tokens
        tell(f"--tokens {training.tokens:,}: rounded up to {whole:,}, whole batches of {training.batch_tokens:,}")
    arms = list(resolve_arms(config, dataset.vocab_size, Decoding(training.context, plan.bytes_per_element)))
    sizes = [count_parameters(build_on_meta(arm.architecture, arm.config)).total for arm in arms]
    for arm, size in zip(arms, sizes, strict=True):
        _refuse_large(arm, size, plan.device)
    study = Study(config, arms, dataset, plan)
    if config.plan is None:
        study = replace(study, plan=_plan_of_study(study, tell))
    _refuse_equal(study)
    return study


def _plan_of_study(study: Study, tell: Callable[[str], None]) -> ExecutionPlan:
    """The plan with what follows from the sizes of the study's runs."""
    asked, plan = study.config.execution, study.plan
    threads = threads_of_study(study)
    least_flops = min(training_flops(arm) for arm in study.arms)
    compiles = plan.compile or compiles_at_once(asked, plan.device, least_flops, tell)
    return plan.model_copy(update={"threads": threads, "compile": compiles})


def threads_of_study(study: Study) -> int:
    """Torch threads of every run of a study that begins with these runs."""
    largest = max(count_parameters(build_on_meta(arm.architecture, arm.config)).total for arm in study.arms)
    runs = len(study.arms) * len(study.config.seeds)
    return threads_at_once(study.config.execution, study.plan.device, largest, runs)


def training_flops(arm: ResolvedArm) -> float:
    """The training FLOPs of one run of the arm."""
    flops = count_flops(build_on_meta(arm.architecture, arm.config), arm.training.context)
    return flops.training * arm.training.tokens


def with_measurements(config: StudyConfig) -> StudyConfig:
    """The names of groups replaced by those of their measurements, and the likelihood among them."""
    return config.model_copy(
        update={"measurements": expanded([LIKELIHOOD, *config.measurements], of_task=config.data.task is not None)}
    )


def resolve_arms(config: StudyConfig, vocab_size: int, decoding: Decoding) -> Iterator[ResolvedArm]:
    """Every arm at every point of the grids, with its dimensions solved and checked against the study's context."""
    for point in config.points():
        architecture = _known(point.arm, config)
        model = _dimensions_with_vocabulary(architecture, config, point.arm, vocab_size)
        solved = size_arm(architecture, config, model, decoding, point.size, point.arm.label)
        _refuse_few_positions(architecture, solved, config.training.context, point.arm.label)
        training = _training(config, point.arm)
        yield ResolvedArm(
            point.arm.label,
            point.group,
            point.size,
            architecture,
            solved,
            training,
            point.arm.replicate,
            arm_plugins(architecture, solved, config.data),
        )


def _training(config: StudyConfig, arm: ArmConfig) -> TrainingConfig:
    try:
        return TrainingConfig.parse({**config.training.model_dump(), **arm.training})
    except RequestError as error:
        raise RequestError(f"{arm.label}: {error}") from None


def _known(arm: ArmConfig, config: StudyConfig) -> Architecture:
    if arm.architecture not in ARCHITECTURES.names() and config.plugins:
        brings = " ".join(f"--plugin {plugin.path}" for plugin in config.plugins)
        raise RequestError(f"{arm.label}: architecture {arm.architecture!r} is not known here; {brings} brings it")
    return ARCHITECTURES.get(arm.architecture)


def size_arm(
    architecture: Architecture,
    config: StudyConfig,
    fixed: dict[str, Any],
    decoding: Decoding,
    size: int | None,
    label: str = "",
) -> ModelConfig:
    """The arm's dimensions: published ones except those `fixed`; with `size`, the others are solved for that size."""
    try:
        if size is None:
            model = architecture.config.parse(fixed)
            if config.match == "flops":
                refuse_without_flops(architecture, build_on_meta(architecture, model))
            return model
        return solve(architecture, size, config.match, fixed, decoding)
    except RequestError as error:
        named = label not in ("", architecture.name)
        raise RequestError(f"{label}: {error}" if named else str(error)) from None


def _dimensions_with_vocabulary(
    architecture: Architecture, config: StudyConfig, arm: ArmConfig, vocab_size: int
) -> dict[str, Any]:
    fixed = arm_dimensions(architecture, config, arm)
    if fixed.setdefault("vocab_size", vocab_size) != vocab_size:
        asked = fixed["vocab_size"]
        task = config.data.task
        cut = task is None or in_words(task)
        data = "the tokenizer" if cut else f"--task {task}"
        leave = "leave it to --tokenizer" if cut else "leave it to the task"
        raise RequestError(f"model.vocab_size: {asked} given, {data} has {vocab_size}; {leave}")
    return fixed


def arm_dimensions(architecture: Architecture, config: StudyConfig, arm: ArmConfig) -> dict[str, Any]:
    """The dimensions fixed for this arm: those set for all arms, overridden by its own. Unknown: a RequestError."""
    known = architecture.config.model_fields
    for name in {**config.model, **arm.model}:
        if name in known:
            continue
        having = [one.label for one in config.arms if name in ARCHITECTURES.get(one.architecture).config.model_fields]
        if having:
            what = f"--set model.{having[0]}.{name}=... sets one arm's"
            raise RequestError(f"model.{name}: {architecture.name} has none; {what}")
        raise RequestError(f"model.{name}: unknown key for {architecture.name}; {suggestion(name, list(known))}")
    return {**config.model, **arm.model}


def _refuse_budget(config: StudyConfig) -> None:
    """Raise a RequestError where the grid takes more runs per arm than `tuning.budget` allows."""
    runs, budget = len(config.tuning.learning_rates) * len(config.seeds), config.tuning.budget
    if budget is not None and runs > budget:
        raise RequestError(
            f"tuning.budget: {budget} runs an arm, and the grid takes {runs} ({len(config.tuning.learning_rates)} "
            f"learning rates, {len(config.seeds)} seeds); a smaller grid or tuning.budget={runs} would do"
        )


def refuse_other_data(config: StudyConfig, dataset: Dataset) -> None:
    """Raise a RequestError where the text, its tokens, or the task have changed since the study began."""
    if config.corpus_digest not in (None, dataset.digest):
        option = "--corpus" if config.data.task is None else "--task"
        raise RequestError(
            f"{option} {config.data.name}: reads as {dataset.digest[:12]} now, and was {config.corpus_digest[:12]} "
            f"when the study began; the {option.strip('-') if config.data.task else 'text'} as it was, or a new --out, "
            "would do"
        )


def _refuse_large(arm: ResolvedArm, parameters: int, device: str) -> None:
    """Raise a RequestError where float32 weights, gradients and AdamW's two moments alone exceed the memory."""
    memory = memory_bytes(device)
    if memory is not None and 16 * parameters > memory:
        raise RequestError(
            f"--size: training {arm.label} of {parameters:,} parameters takes over {16 * parameters / 1e9:,.0f} GB, "
            f"and {device} has {memory / 1e9:,.0f} GB; {memory // 64_000_000}M would do"
        )


def _refuse_few_positions(architecture: Architecture, model: ModelConfig, context: int, label: str) -> None:
    positions = architecture.max_positions(model)
    if positions is not None and context > positions:
        own = f"--set model.{label}.max_positions" if label == architecture.name else "in the arm max_positions"
        raise RequestError(
            f"--context {context}: {label} has {positions} positions; give at most that, or {own}={context}"
        )


def _refuse_equal(study: Study) -> None:
    """Raise a RequestError where two arms are the same runs under two names."""
    seen: dict[str, str] = {}
    for arm in study.arms:
        digest = study.digest(arm, study.config.seeds[0])
        if digest in seen:
            text = f"NAME={arm.architecture.name}:replicate={arm.replicate + 1}"
            raise RequestError(
                f"arms {seen[digest]} and {arm.label}: equal in everything that decides their numbers; leave one away, "
                f"or {text} draws another initialisation as a placebo"
            )
        seen[digest] = arm.label
