"""The code from outside assay that a study needs: its plug-in files, and the origin of every part of an arm."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from assay.config import digest_of
from assay.data.config import DataConfig
from assay.data.corpus import CORPORA, find_corpus
from assay.data.task import TASKS, find_task, in_words
from assay.errors import RequestError
from assay.evaluation.measurement import MEASUREMENTS, AnyMeasurement, expanded
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig
from assay.model.sizing import build_on_meta
from assay.plugins.loading import load_plugin, plugin_source
from assay.plugins.origins import Origin, caller_of, owner_of
from assay.plugins.source_files import is_installed
from assay.registry import Registry
from assay.study.asked import PluginFile, StudyConfig
from assay.study.folder import refuse_changed, where_it_stands


def load_listed(plugins: Sequence[PluginFile], where: str) -> None:
    """Load the plug-in files of a configuration; a changed one is a RequestError whose message begins with `where`."""
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
    """Raise a RequestError where the plug-in lies in the folder of a run or study.

    Such folders are passed around as data: code in them is executed only when the user names it with --plugin.
    """
    for folder in path.resolve().parents:
        if (folder / "config.yaml").exists() and ((folder / "runs").exists() or (folder / "metrics.jsonl").exists()):
            raise RequestError(f"{where} {path}: lies among the results in {folder}; --plugin {path} loads it")


def with_digests(config: StudyConfig, also: Iterable[Path] = ()) -> StudyConfig:
    """`config` with its plug-ins, those in `also` and those of its arms loaded and listed with their digests.

    Two files of one name are a RequestError: messages, records and digests identify a plug-in by its name.
    """
    paths = [Path(plugin.path) for plugin in config.plugins]
    origins = [*(ARCHITECTURES.origin(arm.architecture) for arm in config.arms), *_of_data(config.data)]
    origins += [MEASUREMENTS.origin(name) for name in expanded(config.measurements)]
    needed = [origin.path for origin in origins if origin.kind == "plug-in" and origin.path is not None]
    known = {path.resolve() for path in paths}
    paths += [path for path in dict.fromkeys([*needed, *also]) if path.resolve() not in known]
    plugins = []
    for path in paths:
        load_plugin(path)
        plugins.append(
            PluginFile(path=str(path), sha256=plugin_source(path).digest, measures_only=_measures_only(path))
        )
    names = [path.name for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"--plugin: two files are called {name}, so nobody could tell them apart; rename one")
    return config.model_copy(update={"plugins": plugins})


def _measures_only(path: Path) -> bool:
    """Whether the file registers measurements and nothing that a run is made of."""

    def brings(registry: Registry[Any]) -> bool:
        origins = (registry.origin(name) for name in registry.names())
        return any(origin.path is not None and origin.path.resolve() == path.resolve() for origin in origins)

    return brings(MEASUREMENTS) and not (brings(ARCHITECTURES) or brings(CORPORA) or brings(TASKS))


def arm_plugins(architecture: Architecture, config: ModelConfig, data: DataConfig) -> dict[str, str]:
    """{plug-in file, installed package or calling Python script that an arm needs: SHA-256 of its source}.

    Needed are those that registered its architecture and its corpus or task, and those that define any of its layers (a
    hybrid has layers of other architectures).
    """
    return _digests([*_of_model(architecture, config), *_of_data(data)])


def model_plugins(architecture: Architecture, config: ModelConfig) -> dict[str, str]:
    """The same for a model alone, without its corpus or task."""
    return _digests(_of_model(architecture, config))


def measurement_plugins(measurements: Iterable[AnyMeasurement]) -> dict[str, str]:
    """The same of what is measured; no part of a spec, as it moves none of a run's numbers."""
    return _digests(MEASUREMENTS.origin(measurement.name) for measurement in measurements)


def _digests(origins: Iterable[Origin]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for origin in origins:
        if origin.kind != "built-in":
            name = origin.name if origin.kind == "plug-in" else f"{origin.kind} {origin.name}"
            found.setdefault(name, set()).add(origin.digest or "unknown")
    return {
        name: next(iter(digests)) if len(digests) == 1 else digest_of(sorted(digests))
        for name, digests in sorted(found.items())
    }


def takes_outside_code(run: StudyConfig) -> bool:
    """Whether a run, or a measurement of it, executes code that is not assay's own."""
    return bool(run.plugins or run.needs or run.needs is None) or any(
        MEASUREMENTS.origin(name).kind != "built-in" for name in expanded(run.measurements)
    )


def refuse_changed_sources(config: StudyConfig, folder: Path) -> None:
    """Raise a RequestError where a run in the study's `folder` was made with other outside code than is loaded now.

    Plug-in files that the study lists are compared earlier. This covers the rest: a plug-in of another name, an
    installed package, the script that calls assay. Arms whose architecture is not registered are not asked for now, and
    are passed over.
    """
    architectures = {point.arm.label: point.arm.architecture for point in config.points()}
    for path in sorted(folder.glob("runs/*/config.yaml")):
        run = StudyConfig.read(path)
        (arm,) = run.arms
        if architectures.get(arm.label) != arm.architecture or arm.architecture not in ARCHITECTURES.names():
            continue
        architecture = ARCHITECTURES.get(arm.architecture)
        made_with = run.needs or {}
        now = arm_plugins(architecture, architecture.config.parse(arm.model), config.data)
        for name in [*made_with, *now]:
            if made_with.get(name) != now.get(name):
                refuse_changed(folder, name, where_it_stands(path.parent))


def only_here(
    architecture: Architecture, config: ModelConfig, data: DataConfig, measurements: Iterable[AnyMeasurement] = ()
) -> str:
    """Why no other process can carry out a run of it and measure it, "" where one can."""
    origins = [*_of_model(architecture, config), *_of_data(data)]
    origins += [MEASUREMENTS.origin(measurement.name) for measurement in measurements]
    if any(origin.kind == "caller" for origin in origins):
        return f"{architecture.name}: needs what is registered in this Python only, so it runs in this process"
    return ""


def _of_data(data: DataConfig) -> list[Origin]:
    """The origins of the task, and of the corpus where one may be read."""
    task = [] if data.task is None else [TASKS.origin(find_task(data.task)[0].name)]
    read = data.task is None or in_words(data.task)
    return [*task, *([CORPORA.origin(find_corpus(data)[0].name)] if read else [])]


def _of_model(architecture: Architecture, config: ModelConfig) -> Iterator[Origin]:
    """The origins of the architecture and of the classes of all its layers."""
    yield ARCHITECTURES.origin(architecture.name)
    for kind in dict.fromkeys(type(module) for module in build_on_meta(architecture, config).modules()):
        try:
            file = inspect.getfile(kind)
        except (OSError, TypeError):  # a class typed at a prompt has no file
            yield caller_of(kind)
            continue
        if (owner := owner_of(file)) is not None:
            yield owner.origin
        elif not is_installed(Path(file).resolve(), Path(file).resolve().parent):
            yield caller_of(kind)
