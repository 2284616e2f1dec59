"""Which key of config.yaml an option sets, and which one --set names."""

from collections.abc import Mapping

from assay.errors import RequestError

PATHS = {
    "size": "size",
    "match": "match",
    "corpus": "data.corpus",
    "tokenizer": "data.tokenizer",
    "text_field": "data.text_field",
    "max_bytes": "data.max_bytes",
    "task": "data.task",
    "tokens": "training.tokens",
    "context": "training.context",
    "batch_tokens": "training.batch_tokens",
    "optimizer": "training.optimizer",
    "schedule": "training.schedule",
    "body": "model.body",
    "heads": "model.heads",
    "init": "model.initialisation",
    "device": "execution.device",
    "precision": "execution.precision",
}
"""Where each option stands in config.yaml."""

FLAGS = {path: f"--{name.replace('_', '-')}" for name, path in PATHS.items()} | {
    "seeds": "--seeds",
    "sizes": "--sizes",
    "training.learning_rate": "--lr",
    "tuning.learning_rates": "--lr",
    "rule.baseline": "--baseline",
    "rule.looks": "--looks",
    "measurements": "--measure",
}

_SET_OTHERWISE = {
    "arms": "arms are arguments, as in `assay compare ARM ARM`",
    "plugins": "--plugin FILE gives one",
}


def setting_path(key: str, architectures: Mapping[str, str]) -> str:
    """The dotted path that --set KEY names; the last part alone of a dimension is that of every arm.

    `architectures`: label of an arm -> name of its architecture.
    """
    from assay.config import leaf_paths, resolve_key
    from assay.model.architecture import ARCHITECTURES
    from assay.study.asked import WRITTEN, StudyConfig

    closed = {*WRITTEN, "model", "plugins", "arms"}
    if (instead := _SET_OTHERWISE.get(key)) is not None:
        raise RequestError(f"--set {key}: is not set that way; {instead}")
    paths = [path for path in leaf_paths(StudyConfig) if path.split(".")[0] not in closed]
    for label, name in architectures.items():
        for dimension in ARCHITECTURES.get(name).config.model_fields:
            paths += [f"model.{dimension}", *([f"model.{label}.{dimension}"] if "." in key else [])]
    flag = f"--{key.replace('_', '-')}"
    named = [path for path, of in FLAGS.items() if of == flag and path.split(".")[-1] != key]
    if named and key not in paths:
        raise RequestError(f"--set {key}: unknown key; did you mean {named[0]!r}? ({flag} sets it too)")
    return resolve_key(key, dict.fromkeys(paths))
