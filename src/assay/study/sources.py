"""The code from outside that a study needs: its plug-in files, and who brought what an arm is made of."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path

from assay.data.config import DataConfig
from assay.data.corpus import CORPORA, find_corpus
from assay.errors import RequestError
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig
from assay.model.sizing import build_on_meta
from assay.origins import Origin, owner_of
from assay.plugins import load_plugin, plugin_source
from assay.study.asked import PluginFile, StudyConfig


def load_listed(plugins: Sequence[PluginFile], where: str) -> None:
    """Load the plug-in files of a configuration; one that is not what it was is a RequestError that begins `where`."""
    for plugin in plugins:
        path = Path(plugin.path)
        _refuse_inside_results(path, where)
        load_plugin(path, where)
        now = plugin_source(path).digest
        if plugin.sha256 not in ("", now):
            raise RequestError(
                f"{where} {path}: changed since the configuration was written ({plugin.sha256[:8]} then, {now[:8]} "
                f"now); --plugin {path} takes it as it is"
            )


def _refuse_inside_results(path: Path, where: str) -> None:
    """No code in the folder of a run or study is executed because a file there says so."""
    for folder in path.resolve().parents:
        if (folder / "config.yaml").exists() and ((folder / "runs").exists() or (folder / "metrics.jsonl").exists()):
            raise RequestError(f"{where} {path}: lies among the results in {folder}; --plugin {path} loads it")


def with_digests(config: StudyConfig) -> StudyConfig:
    """`config` with its plug-ins loaded and their digests filled in, those that an arm needs without listing it too."""
    listed = {Path(plugin.path).name: plugin.path for plugin in config.plugins}
    if len(listed) < len(config.plugins):
        raise RequestError("--plugin: two files have one name, so that nobody could tell them apart; rename one")
    for architecture in {arm.architecture for arm in config.arms}:
        for origin in _declared(ARCHITECTURES.get(architecture), config.data):
            if origin.kind == "plug-in" and origin.path is not None:
                listed.setdefault(origin.name, str(origin.path))
    plugins = []
    for path in listed.values():
        load_plugin(Path(path))
        plugins.append(PluginFile(path=path, sha256=plugin_source(Path(path)).digest))
    return config.model_copy(update={"plugins": plugins})


def arm_plugins(architecture: Architecture, config: ModelConfig, data: DataConfig) -> dict[str, str]:
    """What an arm needs from outside -> SHA-256 of its source: plug-in files, installed packages, the calling Python.

    That is what registered its architecture and its corpus, and what defines any of its layers (a hybrid's are another
    architecture's).
    """
    origins = [*_declared(architecture, data), *_defining(architecture, config)]
    return {_name(origin): origin.digest or "unknown" for origin in origins if origin.kind != "built-in"}


def only_here(architecture: Architecture, data: DataConfig) -> str:
    """Why no other process can carry out a run of it, "" where one can."""
    for origin in _declared(architecture, data):
        if origin.kind == "caller":
            return f"{architecture.name}: needs what is registered in this Python only, so it runs in this process"
    return ""


def _declared(architecture: Architecture, data: DataConfig) -> Iterator[Origin]:
    yield ARCHITECTURES.origin(architecture.name)
    yield CORPORA.origin(find_corpus(data)[0].name)


def _defining(architecture: Architecture, config: ModelConfig) -> Iterator[Origin]:
    """Of the classes of all layers."""
    for kind in {type(module) for module in build_on_meta(architecture, config).modules()}:
        try:
            owner = owner_of(inspect.getfile(kind))
        except (OSError, TypeError):  # typed at a prompt
            continue
        if owner is not None:
            yield owner.origin


def _name(origin: Origin) -> str:
    return origin.name if origin.kind == "plug-in" else f"{origin.kind} {origin.name}"
