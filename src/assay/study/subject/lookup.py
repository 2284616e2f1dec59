"""The models that a SUBJECT names: all of them, for verbs that look at models, or the one trained model."""

from pathlib import Path

from assay.hub.import_ import read_model
from assay.model.architecture import ARCHITECTURES
from assay.study.arm import parse_arm
from assay.study.subject.file import models_in_file
from assay.study.subject.fresh import Fresh, fresh_model
from assay.study.subject.hub import transformers_model
from assay.study.subject.run import LoadedRun, find_run, first_runs, load_run
from assay.study.subject.subject import NamedModel, parse_subject


def named_models(text: str, fresh: Fresh) -> list[NamedModel]:
    """The models that SUBJECT = ARM | RUN | STUDY | FILE.py[:NAME] | hf:PATH names; else a RequestError."""
    subject = parse_subject(text)
    if subject.kind == "hub":
        return [transformers_model(text)]
    if subject.kind == "arm":
        return [fresh_model(parse_arm(text), fresh)]
    if subject.kind == "file":
        return models_in_file(subject.path, subject.name, fresh)
    if subject.kind == "folder":
        return [trained_model(run) for run in first_runs(subject.path)]
    raise subject.unknown()


def trained_model(folder: Path) -> NamedModel:
    """The model in the folder of a run or an import."""
    run = load_run(folder)
    ends = () if run.tokenizer is None else tuple({run.tokenizer.bos, run.tokenizer.eos})
    return NamedModel(run.name, run.model, run.architecture, folder, special_ids=ends)


def load_subject(text: str) -> LoadedRun:
    """The one model that SUBJECT names: the folder of a run, of a study with one run, of an import; or hf:PATH.

    No code in a folder is executed: the architecture of a plug-in must have been loaded before (--plugin).
    """
    if parse_subject(text).kind == "hub":
        read = read_model(text)
        architecture = ARCHITECTURES.get(read.record.architecture)
        begins = read.record.begins_with_bos
        return LoadedRun(text, architecture, read.config, read.model, read.tokenizer, begins)
    return load_run(find_run(Path(text)))
