"""RUN and STUDY as a SUBJECT: a trained or imported model from its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.data.corpus import CORPORA
from assay.data.task import TASKS
from assay.data.text.tokenizer import Tokenizer
from assay.errors import RequestError
from assay.hub.folder import CONFIG
from assay.hub.import_ import RECORD, ImportRecord
from assay.hub.tensors import fill, read_safetensors
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig, assemble
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.registry import Registry
from assay.study.asked import StudyConfig
from assay.study.sources import model_plugins


@dataclass(frozen=True)
class LoadedRun:
    """A trained or imported model, on the CPU in float32 and evaluation mode, with its configuration and tokenizer."""

    name: str
    """The folder, or hf:PATH."""
    architecture: Architecture
    config: ModelConfig
    model: LanguageModel
    tokenizer: Tokenizer | None
    """None for an imported model that came without one."""
    begins_with_bos: bool
    """Whether a text begins with BOS for this model: every document of a run does."""

    def prompt(self, text: str) -> list[int]:
        """The ids of a text to be continued, with BOS where the model expects it; never empty."""
        tokenizer = self.text_tokenizer()
        ids = tokenizer.encode(text)
        return [tokenizer.bos, *ids] if self.begins_with_bos or not ids else ids

    def text_tokenizer(self) -> Tokenizer:
        """The tokenizer; a RequestError where there is none."""
        if self.tokenizer is None:
            raise RequestError(f"{self.name}: has no tokenizer.json, so it reads and writes no text")
        return self.tokenizer


def find_run(folder: Path) -> Path:
    """The folder of the only run in `folder`: `folder` itself, or the run of a study; else a RequestError."""
    if not folder.is_dir():
        raise RequestError(f"{folder}: no such folder; that of a run would do (`assay train` makes one)")
    if (folder / RECORD).exists():
        return folder
    runs = sorted(path.parent for path in folder.glob("runs/*/config.yaml"))
    if len(runs) > 1:
        raise RequestError(f"{folder}: holds {len(runs)} runs; give one of {', '.join(map(str, runs))}")
    if runs:
        return runs[0]
    if (folder / "config.yaml").exists():
        return folder
    raise no_run_in(folder)


def first_runs(folder: Path) -> list[Path]:
    """The run itself; of a study, for every arm the run with the lowest seed."""
    first_of: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.glob("runs/*/config.yaml")):
        config = read_run_config(path.parent)
        label, found = config.arms[0].label, (config.seeds[0], path.parent)
        first_of[label] = min(first_of.get(label, found), found)
    return [first_of[label][1] for label in sorted(first_of)] or [folder]


def load_run(folder: Path) -> LoadedRun:
    """Build the model that `folder` describes and fill it with its weights; RequestError if anything is wrong."""
    if (folder / RECORD).exists():
        record = ImportRecord.read(folder / RECORD)
        return _load(folder, record.architecture, record.dimensions, None, record.ends, record.begins_with_bos)
    run = read_run_config(folder)
    if len(run.points()) > 1 or not (folder / "metrics.jsonl").exists():
        raise RequestError(f"{folder}: is a study without runs yet; the folder of a run would do")
    (arm,) = run.arms
    dimensions = {**run.model, **arm.model}  # version 1 kept those of the run under `model`
    known_architecture(folder, run)
    loaded = _load(folder, arm.architecture, dimensions, run.plan, None, True)
    if run.needs is not None:
        refuse_edited(folder, run.needs, model_plugins(loaded.architecture, loaded.config))
    return loaded


def known_architecture(folder: Path, run: StudyConfig) -> Architecture:
    """That of the run in `folder`; where it is not known here, a RequestError says what brings it."""
    name = run.arms[0].architecture
    _refuse_unknown(folder, run, ARCHITECTURES, name)
    return ARCHITECTURES.get(name)


def refuse_unknown_data(folder: Path, run: StudyConfig) -> None:
    """Raise a RequestError, which says what brings it, where the task or corpus of the run is not known here."""
    if run.data.task is not None:
        _refuse_unknown(folder, run, TASKS, run.data.task.partition(":")[0])
    else:
        _refuse_unknown(folder, run, CORPORA, run.data.corpus.partition(":")[0])


def _refuse_unknown(folder: Path, run: StudyConfig, registry: Registry[Any], name: str) -> None:
    if name not in registry.names():
        brings = " ".join(f"--plugin {plugin.path}" for plugin in run.plugins) or "--plugin FILE.py"
        raise RequestError(f"{folder}: its {registry.kind} {name!r} is not known here; {brings} brings it")


def refuse_edited(folder: Path, trained_with: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise a RequestError where weights would run with other code than they were trained with."""
    for name, digest in now.items():  # the plug-in of its corpus is no longer needed
        if trained_with.get(name) != digest:
            raise RequestError(f"{folder}: {name} changed since it was trained; the file as it was would do")


def read_run_config(folder: Path) -> StudyConfig:
    """The configuration of the run or study in `folder`, of this schema or an older one."""
    if not (folder / "config.yaml").exists():
        raise no_run_in(folder)
    return StudyConfig.read(folder / "config.yaml")


def no_run_in(folder: Path) -> RequestError:
    """What to say of a folder that holds neither a study nor a run."""
    if (folder / CONFIG).exists():
        return RequestError(f"{folder}: is in Hugging Face's layout; hf:{folder} would do")
    return RequestError(f"{folder}: no config.yaml; the folder of a run would do (`assay train` makes one)")


def _load(
    folder: Path,
    name: str,
    dimensions: dict[str, object],
    plan: ExecutionPlan | None,
    ends: tuple[int, int] | None,
    begins_with_bos: bool,
) -> LoadedRun:
    if name not in ARCHITECTURES.names():
        raise RequestError(f"{folder}: its architecture {name!r} is not known here; --plugin FILE.py brings one's own")
    architecture = ARCHITECTURES.get(name)
    config = architecture.config.parse(dimensions)
    model = assemble(architecture, config)
    weights = _weights(folder)
    fill(model, read_safetensors(weights), weights)
    if plan is not None:
        model.set_execution(plan.execution)
    tokenizer = None
    if (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_file(folder / "tokenizer.json", ends=ends)
        if tokenizer.vocab_size > config.vocab_size:
            raise RequestError(
                f"{folder / 'tokenizer.json'}: has {tokenizer.vocab_size} tokens, the model {config.vocab_size}; "
                "the tokenizer of another run?"
            )
    return LoadedRun(str(folder), architecture, config, model.eval(), tokenizer, begins_with_bos)


def _weights(folder: Path) -> Path:
    """The last checkpoint; where a process was killed between two renames, the one that was moved aside."""
    for name in ("checkpoint", "checkpoint.old"):
        if (folder / name / "model.safetensors").exists():
            return folder / name / "model.safetensors"
    raise RequestError(f"{folder}: no checkpoint yet; `assay train` writes one as it goes")
