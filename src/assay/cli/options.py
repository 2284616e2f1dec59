"""The options that `compare` and `train` share, and how they become a study's configuration."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.keys import FLAGS, PATHS, setting_path
from assay.cli.numbers import parse_count, parse_counts, parse_looks, parse_names, parse_rates, parse_seeds
from assay.cli.origins import as_given, of_file_arms
from assay.errors import RequestError

if TYPE_CHECKING:
    from assay.study.arm import ArmConfig
    from assay.study.asked import StudyConfig

Size = Annotated[str | None, typer.Option(help="Parameters of every arm, as in 1M or 300k.", show_default="250k")]
Match = Annotated[
    str | None,
    typer.Option(help="What is matched: blocks+head, non-embedding, total, flops, state.", show_default="blocks+head"),
]
Corpus = Annotated[
    str | None, typer.Option(help="stdlib, text:PATH, or a name `assay list` shows.", show_default="stdlib")
]
Tokenizer = Annotated[str | None, typer.Option(help="bytes, bpe:N, gpt2, or a tokenizer.json.", show_default="bytes")]
TextField = Annotated[str | None, typer.Option(help="The field of a JSON or parquet row that holds text.")]
MaxBytes = Annotated[str | None, typer.Option(help="Read at most so many bytes of a streamed corpus.")]
Task = Annotated[
    str | None, typer.Option(help="A task instead of a text: copying, copying:length=24, or a name `assay list` shows.")
]
Tokens = Annotated[str | None, typer.Option(help="Training tokens of a run.", show_default="327680")]
Context = Annotated[str | None, typer.Option(help="Tokens of a window.", show_default="256")]
BatchTokens = Annotated[str | None, typer.Option(help="Tokens of a batch.", show_default="512")]
LearningRate = Annotated[
    str | None,
    typer.Option("--lr", help="Highest learning rate; a grid as 1e-3..1e-2 or 1e-3,3e-3.", show_default="0.003"),
]
Optimizer = Annotated[
    str | None, typer.Option(help="adamw, or muon for the matrices of blocks beside it.", show_default="adamw")
]
Schedule = Annotated[str | None, typer.Option(help="constant, cosine or wsd.", show_default="cosine")]
Body = Annotated[str | None, typer.Option(help="native, or common: only the mixer differs.", show_default="native")]
Heads = Annotated[
    str | None, typer.Option(help="untied, tied (the head is the token table) or published.", show_default="untied")
]
Init = Annotated[str | None, typer.Option(help="own, or blinkdl for every arm.", show_default="own")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.", show_default="auto")]
Precision = Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.", show_default="auto")]
Out = Annotated[Path | None, typer.Option(help="Folder of the results.", show_default="runs/<verb>-<hash>")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A config.yaml to start from.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of config.yaml; repeatable.")
]
Measure = Annotated[
    str | None,
    typer.Option(metavar="NAME|GROUP,...", help="Measurements beside the usual ones: `assay list measurements`."),
]
Plugin = Annotated[list[Path] | None, typer.Option(help="A Python file that registers more; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]


@dataclass(frozen=True)
class StudyOptions:
    """What the command line said, before it is a configuration. None is "not given"."""

    size: Size = None
    match: Match = None
    corpus: Corpus = None
    tokenizer: Tokenizer = None
    text_field: TextField = None
    max_bytes: MaxBytes = None
    task: Task = None
    tokens: Tokens = None
    context: Context = None
    batch_tokens: BatchTokens = None
    lr: LearningRate = None
    optimizer: Optimizer = None
    schedule: Schedule = None
    body: Body = None
    heads: Heads = None
    init: Init = None
    device: Device = None
    precision: Precision = None
    out: Out = None
    config: ConfigFile = None
    set: Set = None
    measure: Measure = None
    plugin: Plugin = None
    json: Json = False

    def study(
        self,
        arms: list[str] | None,
        seeds: list[int] | None,
        sizes: str | None = None,
        default_seeds: list[int] | None = None,
        rule: Mapping[str, Any] | None = None,
    ) -> "StudyConfig":
        """The configuration: defaults, then --config, then the options, then --set.

        Of `rule`, keys of that section, those that are None were not given.
        """
        from assay.config import merge, nested, parse_assignment
        from assay.evaluation.measurement import expanded
        from assay.study.asked import StudyConfig, usual_measurements
        from assay.study.sources import with_digests

        values = _sections_of(self.config) if self.config is not None else {}
        if values.get("plan") and (self.device or self.precision):
            raise RequestError("--config: its plan fixes device and precision; remove `plan` from the file to set them")
        values, checked = self._with_plugins(values)
        values.pop("needs", None)
        data_of_file = values.get("data")
        for name, path in PATHS.items():
            if (given := getattr(self, name)) is not None:
                value = parse_count(f"--{name.replace('_', '-')}", given) if name in COUNTS else given
                values = merge(values, nested(path, value))
        values = merge(values, _rates(self.lr))
        if sizes is not None:
            values = {**values, "sizes": parse_counts("--sizes", sizes)}
            if self.size is None:
                values.pop("size", None)
        if arms:
            values["arms"] = [parse_arm(arm) for arm in arms]
            values.pop("architectures", None)
        if given := {key: of for key, of in (rule or {}).items() if of is not None}:
            values = merge(values, {"rule": given})
        if seeds is not None:
            values["seeds"] = seeds
        elif default_seeds is not None:
            values.setdefault("seeds", default_seeds)
        architectures = _architectures(values)
        for assignment in self.set or []:
            key, value = parse_assignment(assignment)
            values = merge(values, nested(setting_path(key, architectures), value))
        values = _lists_as_flags(values)
        if self.measure is not None:
            data = values.get("data") or {}
            usual = values.get("measurements", usual_measurements(data.get("task"), data.get("mix", 1) != 1))
            asked = [*usual, *parse_names("--measure", self.measure)]
            values["measurements"] = expanded(asked, of_task=data.get("task") is not None)
        if values.get("data") != data_of_file:  # another text than that of the file
            values.pop("corpus_digest", None)
        source = {} if self.config is None else {"": f"--config {self.config}"}
        study = StudyConfig.parse(values, FLAGS | source)
        try:
            hold_to_contract(arm.architecture for arm in study.arms if arm.architecture not in checked)
        except RequestError as error:
            raise RequestError(str(error) if arms else f"arms: {error}") from None
        return with_digests(study)

    def _with_plugins(self, values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """`values` with the files of --plugin among the plug-ins of --config, all loaded; what architectures came."""
        from assay.study.asked import PluginFile
        from assay.study.sources import load_listed

        given = [PluginFile(path=str(path)) for path in self.plugin or []]
        checked = load_plugins(self.plugin)
        listed = values.get("plugins")
        if not isinstance(listed, list):  # a wrong type is said when all is parsed
            return ({**values, "plugins": given} if given else values), checked
        for item in listed:
            if not isinstance(item, str | dict):
                raise RequestError(f"plugins: {item!r} given, the path of a Python file is needed")
        files = [PluginFile(path=item) if isinstance(item, str) else PluginFile.parse(item) for item in listed]
        names = {Path(plugin.path).name for plugin in given}
        rest = [plugin for plugin in files if Path(plugin.path).name not in names]
        load_listed(rest, f"--config {self.config}: plugin")
        return {**values, "plugins": [*given, *rest]}, checked


def _sections_of(file: Path) -> dict[str, Any]:
    """The values of the file of --config; a section that is no mapping is a RequestError, and not overwritten."""
    from assay.config import leaf_paths, read_yaml
    from assay.study.asked import StudyConfig

    values = read_yaml(file, "--config")
    sections = {path.partition(".")[0] for path in leaf_paths(StudyConfig) if "." in path} | {"model"}
    for name in sections - {"plan"}:
        if name in values and not isinstance(values[name], dict):
            raise RequestError(f"{name}: {values[name]!r} given, keys with values are needed, as in {name}: {{...}}")
    return values


COUNTS = {"size", "max_bytes", "tokens", "batch_tokens", "context"}

LISTS: Mapping[str, Callable[[str, str], list[Any]]] = {
    "seeds": parse_seeds,
    "sizes": parse_counts,
    "rule.looks": parse_looks,
    "tuning.learning_rates": parse_rates,
}
"""Keys whose flag takes several in one text."""


def _lists_as_flags(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with single numbers and texts, where a list is asked, read as the flag of that key reads them."""
    from assay.config import merge, nested

    training = values.get("training")
    rate = training.get("learning_rate") if isinstance(training, dict) else None
    if isinstance(training, dict) and isinstance(rate, str) and (".." in rate or "," in rate):
        values = {**values, "training": {key: of for key, of in training.items() if key != "learning_rate"}}
        values = merge(values, _rates(rate))
    for path, parse in LISTS.items():
        section, _, key = path.rpartition(".")
        inside = values.get(section, {}) if section else values
        given = inside.get(key) if isinstance(inside, dict) else None
        if isinstance(given, str) or type(given) in (int, float):
            values = merge(values, nested(path, parse(FLAGS[path], str(given))))
    return values


def parse_arm(text: str) -> "ArmConfig":
    """One arm as it is written; see `assay.study.arm`."""
    from assay.study import arm

    return arm.parse_arm(text)


def _rates(text: str | None) -> dict[str, Any]:
    """Where --lr stands in config.yaml: one rate among the training settings, several as a grid."""
    from assay.config import nested

    if text is None:
        return {}
    rates = parse_rates("--lr", text)
    if len(rates) > 1:
        return nested("tuning.learning_rates", rates)
    return {**nested("training.learning_rate", rates[0]), **nested("tuning.learning_rates", [])}


def _architectures(values: dict[str, Any]) -> dict[str, str]:
    """Label -> architecture of the arms in `values`, as far as they can be read."""
    from assay.study.asked import StudyConfig

    given: dict[str, Any] = {name: values[name] for name in ("version", "arms", "architectures") if name in values}
    return {arm.label: arm.architecture for arm in StudyConfig.parse(given).arms}


def load_plugins(paths: Iterable[Path] | None) -> list[str]:
    """Load each --plugin file once; the architectures that they bring must keep the contract. Returns their names."""
    if not paths:
        return []
    from assay.model.architecture import ARCHITECTURES
    from assay.model.contract import check_contract
    from assay.plugins.loading import load_plugin

    known = set(ARCHITECTURES.names())
    for path in paths:
        load_plugin(path)
    brought = [name for name in ARCHITECTURES.names() if name not in known]
    for name in brought:
        check_contract(ARCHITECTURES.get(name))
    return brought


def hold_to_contract(names: Iterable[str]) -> None:
    """Those of the architectures that an installed package brought must keep the contract, as those of --plugin do."""
    from assay.model.architecture import ARCHITECTURES
    from assay.model.contract import check_contract
    from assay.plugins.blame import is_brought

    for architecture in map(ARCHITECTURES.get, names):
        if is_brought(architecture.mixer, architecture.channel_mixer, architecture.config):
            check_contract(architecture)


def with_study_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give `verb` the options of StudyOptions in place of its parameter `options`."""
    own = [p for p in inspect.signature(verb).parameters.values() if p.name != "options"]
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(StudyOptions)
    ]

    @functools.wraps(verb)
    def wrapped(**given: Any) -> None:
        options = StudyOptions(**{f.name: given.pop(f.name) for f in fields(StudyOptions)})
        asked = [f"--{name.replace('_', '-')}" for name, of in {**vars(options), **given}.items() if of is not None]
        try:
            verb(options=options, **given)
        except RequestError as error:
            text = as_given(str(error), FLAGS, asked, options.set or [], options.config)
            if options.config is not None and not (given.get("arms") or given.get("arm")):
                text = of_file_arms(text, options.config)
            raise RequestError(text) from error

    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    wrapped.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
    return wrapped
