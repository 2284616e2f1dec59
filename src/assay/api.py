"""The Python interface: build a model, compare architectures, measure what was trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from assay.analysis.gate.rule import DEFAULT_RULE, read_rule
from assay.config import Config
from assay.errors import RequestError
from assay.gating.asked import BATCH_TOKENS, RATES, TOKENS_PER_PARAMETER, GateRequest, parse_budget
from assay.gating.carry_out import carry_out_gate
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.sizing import refuse_chosen, solve
from assay.plugins.loading import loaded_plugins
from assay.records import DEFAULT_MATCH, Match, StudyRecord
from assay.records.gate import GateRecord
from assay.study.asked import StudyConfig
from assay.study.compare import Listener, Silent
from assay.study.compare import compare as compare_study
from assay.study.executor.capacity import parse_workers
from assay.study.measure.how import How, parse_moments
from assay.study.measure.runs import Looked
from assay.study.measure.subjects import look_at_all
from assay.study.sources import with_digests

_SECTIONS = {
    "data": '{"corpus": "text:PATH"}',
    "training": '{"tokens": "1M"}',
    "evaluation": '{"test_tokens": 65_536}',
}
"""Sections of config.yaml that are looked into before they are parsed, each with an example."""


class _Built(Config):
    """What `build` is given beside dimensions; as everywhere, text such as 1M is read as on the command line."""

    size: int | None
    seed: int = Field(ge=0)
    match: Match


class _Gated(Config):
    """What `gate` is given beside arms and settings."""

    flags: ClassVar[Mapping[str, str]] = {"rates": "--lr"}

    budget: str | None
    rule: str
    sizes: list[int]
    seeds: int | None
    rates: list[float]
    tokens_per_parameter: float


def build(
    name: str,
    size: int | str | None = None,
    vocab_size: int = 4096,
    seed: int = 0,
    match: Match = DEFAULT_MATCH,
    **overrides: Any,
) -> LanguageModel:
    """Build and initialise the architecture called `name`, the same weights for a seed everywhere.

    With `size` (250_000 or "1M") the dimensions are solved so that what `match` counts is within 1% of it; size
    together with a dimension it would solve for is a RequestError, as is an unknown name or dimension. `overrides` are
    fields of its configuration.
    """
    architecture = ARCHITECTURES.get(name)
    of = _Built.parse({"size": size, "seed": seed, "match": match})
    fixed = {**overrides, "vocab_size": vocab_size}
    if of.size is None:
        config = architecture.config.parse(fixed)
    else:
        refuse_chosen(architecture, of.size, of.match, fixed)
        config = solve(architecture, of.size, of.match, fixed)
    return build_model(architecture, config, of.seed)


def compare(
    arms: Sequence[str] | str,
    out: Path | str,
    listener: Listener | None = None,
    workers: int | str | None = None,
    **settings: Any,
) -> StudyRecord:
    """Run a study in the folder `out` and return its record; the same call continues an interrupted one.

    `arms` are written as on the command line: "gpt1", "rwkv6:head_dim=32", "slow=gpt1:lr=1e-4". More arms or seeds than
    the study in `out` has are added to it. `workers` is the number of runs at a time, None for automatic. `settings`
    are the keys of config.yaml, nested: `seeds=[0, 1]`, `training={"tokens": "100k"}`. What does not fit is a
    RequestError, as on the command line.
    """
    number = _workers(workers)
    config = StudyConfig.parse({"arms": _several(arms), **settings})
    return compare_study(with_digests(config, _loaded()), Path(out), listener, number)


def gate(
    candidates: Sequence[str] | str,
    against: str,
    out: Path | str,
    budget: str | None = None,
    rule: str = DEFAULT_RULE,
    sizes: Sequence[int | str] = (),
    seeds: int | None = None,
    rates: Sequence[float] = RATES,
    tokens_per_parameter: float = TOKENS_PER_PARAMETER,
    placebo: bool = False,
    memory: bool = False,
    listener: Listener | None = None,
    workers: int | str | None = None,
    **settings: Any,
) -> GateRecord:
    """Decide whether `candidates` deserve to be scaled, in the folder `out`; the same call continues where it stopped.

    Arms are written as on the command line. `budget` (30m, 8h, 1e15flops) chooses the sizes, or `sizes` names them.
    `rule` is the name of one, or a YAML file. `memory` measures what the
    arms remember even where the rule does not ask. `settings` are the keys of config.yaml, as in `compare`.
    """
    number = _workers(workers)
    asked = _Gated.parse(
        {
            "budget": budget,
            "rule": rule,
            "sizes": sizes if isinstance(sizes, str) else list(sizes),
            "seeds": seeds,
            "rates": rates if isinstance(rates, str) else list(rates),
            "tokens_per_parameter": tokens_per_parameter,
        }
    )
    _refuse_no_mapping(settings)
    training = {"batch_tokens": BATCH_TOKENS, **settings.pop("training", {})}
    values = {"arms": [*_several(candidates), against], "seeds": [0], "training": training, **settings}
    study = with_digests(StudyConfig.parse(values), _loaded())
    request = GateRequest(
        candidates=study.arms[:-1],
        baseline=study.arms[-1],
        study=study,
        rule=read_rule(asked.rule),
        budget=None if asked.budget is None else parse_budget(asked.budget),
        sizes=asked.sizes,
        seeds=asked.seeds,
        rates=sorted(asked.rates),
        tokens_per_parameter=asked.tokens_per_parameter,
        placebo=placebo,
        memory=memory,
    )
    found = carry_out_gate(request, Path(out), listener or Silent(), number)
    if isinstance(found, GateRecord):
        return found
    raise TypeError("a plan was returned where a verdict was asked for")


def measure(
    *subjects: Path | str,
    only: Sequence[str] | str | None = None,
    at: Sequence[str] | str = ("init", "trained"),
    quick: bool = False,
    **settings: Any,
) -> list[Looked]:
    """Measure what the `subjects` lack, without training, and return all that was measured of them.

    A subject is the folder of a study or run, an arm as on the command line, FILE.py, or hf:PATH. Results of runs and
    studies are written beside them. `only` names measurements or groups of them, `at` the weights that are looked at
    where both can be had; `quick` takes smaller protocols where there are some. `settings` are keys of config.yaml,
    nested, for arms and imported models, which have no text of their own: `data={"corpus": "text:PATH"}`. What is asked
    of all arms at once, as speed, is asked of all `subjects` that are arms together, taking turns.
    """
    _refuse_no_mapping(settings)
    how = How(quick, parse_moments(_names(at)))
    names = None if only is None else _names(only)
    return look_at_all([str(subject) for subject in subjects], names, settings, lambda _: None, how)


def _several(arms: Sequence[str] | str) -> list[str]:
    """The arms, or the one; what is none of them is told by whatever reads them."""
    return [arms] if isinstance(arms, str) else list(arms)


def _names(given: Sequence[str] | str) -> list[str]:
    """A list of names, or a text with commas as on the command line."""
    return [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)


def _workers(given: int | str | None) -> int | None:
    return parse_workers(None if given is None else str(given))


def _loaded() -> list[Path]:
    """Files of the plug-ins that were loaded, which a study's configuration names."""
    return [plugin.path for plugin in loaded_plugins() if plugin.path.is_file()]


def _refuse_no_mapping(settings: Mapping[str, Any]) -> None:
    """A section that holds no keys is a RequestError."""
    for name, example in _SECTIONS.items():
        if not isinstance(settings.get(name, {}), Mapping):
            raise RequestError(f"{name}: {settings[name]!r} given; keys and values are needed, as in {example}")
