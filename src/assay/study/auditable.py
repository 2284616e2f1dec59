"""What `assay audit` looks at: the models that SUBJECT names, ours or anybody's, and what is known of each."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from assay.errors import RequestError
from assay.model.architecture import ARCHITECTURES, Architecture, build_model
from assay.model.contract import check_shapes
from assay.model.sizing import Decoding
from assay.plugins.blame import blamed, described, is_brought
from assay.plugins.loading import load_plugin
from assay.registry import suggestion
from assay.study.arm import ArmConfig, parse_arm
from assay.study.asked import StudyConfig
from assay.study.resolve import arm_dimensions, size_arm
from assay.study.subject import load_run, read_run_config

SIZE = 300_000
VOCAB_SIZE = 128
"""Of a fresh model: enough for an audit, and the head stays cheap."""
FACTORIES = ("model", "build", "build_model", "make_model", "get_model")
USUAL = ("model", "Model", "LanguageModel", "LM")
"""Names that go before others of their kind."""


@dataclass(frozen=True)
class Auditable:
    """One model and what is known of it."""

    name: str
    model: nn.Module
    architecture: Architecture | None = None
    run: Path | None = None
    """The folder that it was trained in."""
    vocab_size: int | None = None
    special_ids: tuple[int, ...] = ()
    fresh: bool = False
    loss: Callable[..., Any] | None = None
    log_prob: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Fresh:
    """How models of architectures are built: `size` None is 300,000 parameters unless `model` sets a dimension."""

    size: int | None = None
    model: Mapping[str, Any] | None = None
    seed: int = 0


def auditables(subject: str, fresh: Fresh) -> list[Auditable]:
    """The models that SUBJECT = ARM | RUN | STUDY | FILE.py[:NAME] | hf:PATH names; else a RequestError."""
    if subject.startswith("hf:"):
        return [_from_transformers(subject)]
    if subject in ARCHITECTURES.names():
        return [_of_arm(parse_arm(subject), fresh)]
    file, colon, name = subject.partition(".py:")
    if colon or subject.endswith(".py"):
        return _in_file(Path(f"{file}.py" if colon else subject), name, fresh)
    folder = Path(subject)
    if folder.is_dir():
        return [_of_run(run) for run in audited_runs(folder)]
    if subject.partition(":")[0].rpartition("=")[2] in ARCHITECTURES.names():
        return [_of_arm(parse_arm(subject), fresh)]
    what = suggestion(subject, ARCHITECTURES.names())
    raise RequestError(f"{subject}: no architecture, folder of a run, FILE.py or hf:PATH; {what}")


def audited_runs(folder: Path) -> list[Path]:
    """The run itself, or of a study the run with the lowest seed of every arm."""
    first_of: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.glob("runs/*/config.yaml")):
        config = read_run_config(path.parent)
        label, found = config.arms[0].label, (config.seeds[0], path.parent)
        first_of[label] = min(first_of.get(label, found), found)
    return [first_of[label][1] for label in sorted(first_of)] or [folder]


def _of_arm(arm: ArmConfig, fresh: Fresh) -> Auditable:
    """A fresh model with natural dimensions, small unless asked otherwise; `fresh.model` is laid over the arm's own."""
    architecture = ARCHITECTURES.get(arm.architecture)
    if is_brought(architecture.mixer, architecture.channel_mixer, architecture.config):
        check_shapes(architecture)
    arm = arm.model_copy(update={"model": {**arm.model, **(fresh.model or {})}})
    size = fresh.size or arm.size
    size = size if size is not None or {"d_model", "n_layers"} & set(arm.model) else SIZE
    study = StudyConfig.parse({"arms": [arm], "size": size})
    fixed = {"vocab_size": VOCAB_SIZE, **arm_dimensions(architecture, study, arm)}
    config = size_arm(architecture, study, fixed, Decoding(), size, arm.label)
    model = build_model(architecture, config, fresh.seed, arm.replicate)
    return Auditable(arm.label, model, architecture, fresh=True)


def _of_run(folder: Path) -> Auditable:
    run = load_run(folder)
    ends = () if run.tokenizer is None else tuple({run.tokenizer.bos, run.tokenizer.eos})
    return Auditable(run.name, run.model, run.architecture, folder, special_ids=ends)


def _from_transformers(subject: str) -> Auditable:
    """transformers' own class for the model: it is what is audited, whatever assay could import."""
    if importlib.util.find_spec("transformers") is None:
        raise RequestError(f"{subject}: needs transformers; pip install 'assay[hub]' brings it")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(subject.removeprefix("hf:"), use_safetensors=True)
    except Exception as error:
        raise RequestError(f"{subject}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    return Auditable(subject, model)


def _in_file(path: Path, name: str, fresh: Fresh) -> list[Auditable]:
    """What the file registers, else the model that it holds under `name` or where there is no doubt."""
    brought = registered_by(path)
    module = load_plugin(path, "")
    if brought and not name:
        return [_of_arm(parse_arm(architecture.name), fresh) for architecture in brought]
    if not name:
        name = _only_candidate(path, module)
    if not hasattr(module, name):
        raise RequestError(f"{path}:{name}: the file has no {name}; {suggestion(name, _candidates(module))}")
    model = _made(path, name, getattr(module, name))
    loss, log_prob = (getattr(module, scorer, None) for scorer in ("loss", "log_prob"))
    return [Auditable(f"{path}:{name}", model, fresh=True, loss=loss, log_prob=log_prob)]


def registered_by(path: Path) -> list[Architecture]:
    """The architectures that the file registers, also where it was loaded before."""
    known = set(ARCHITECTURES.names())
    module = load_plugin(path, "")
    return [item for item in ARCHITECTURES if item.name not in known or _is_of(item, module)]


def _is_of(architecture: Architecture, module: ModuleType) -> bool:
    return getattr(architecture.mixer, "__module__", None) == module.__name__


def _candidates(module: ModuleType) -> list[str]:
    """Names of what could be a model: an instance, a factory of a usual name, a class."""
    return list(dict.fromkeys(name for names in _by_kind(module) for name in names))


def _by_kind(module: ModuleType) -> Iterator[list[str]]:
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    yield [name for name, value in own.items() if isinstance(value, nn.Module)]
    yield [name for name in FACTORIES if callable(own.get(name)) and not isinstance(own[name], type)]
    classes = [(name, value) for name, value in own.items() if isinstance(value, type) and issubclass(value, nn.Module)]
    yield [name for name, value in classes if value.__module__ == module.__name__]


def _only_candidate(path: Path, module: ModuleType) -> str:
    for found in _by_kind(module):
        names = [name for name in USUAL if name in found][:1] or found
        if len(names) == 1:
            return names[0]
        if names:
            raise RequestError(f"{path}: holds {', '.join(names)}; give one of them, as in {path}:{names[0]}")
    raise RequestError(
        f"{path}: registers no architecture and holds no model; `register(Architecture(...))`, or a torch.nn.Module or "
        "a function without arguments that makes one, called `model`, would do"
    )


def _made(path: Path, name: str, value: Any) -> nn.Module:
    """The module itself, or what a class or a factory makes without arguments."""
    if isinstance(value, nn.Module):
        return value
    if not callable(value):
        raise RequestError(
            f"{path}:{name}: is a {type(value).__name__}; a torch.nn.Module, or what makes one, would do"
        )
    try:
        made = value()
    except (Exception, SystemExit) as error:
        where = blamed(error) or f"{path}:{name}: {described(error)}"
        raise RequestError(where) from error
    if not isinstance(made, nn.Module):
        raise RequestError(f"{path}:{name}: makes a {type(made).__name__}; a torch.nn.Module would do")
    return made
