"""The Python interface: build a model, compare architectures, measure what was trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.analysis.gate.rule import DEFAULT_RULE, read_rule
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
from assay.study.measure.how import How, parse_moments
from assay.study.measure.runs import Looked
from assay.study.measure.subjects import look_at_all
from assay.study.sources import with_digests


def build(
    name: str,
    size: int | None = None,
    vocab_size: int = 4096,
    seed: int = 0,
    match: Match = DEFAULT_MATCH,
    **overrides: Any,
) -> LanguageModel:
    """Build and initialise the architecture called `name`, the same weights for a seed everywhere.

    With `size` the dimensions are solved so that what `match` counts is within 1% of it; size together with a dimension
    it would solve for is a RequestError, as is an unknown name or dimension. `overrides` are fields of its
    configuration.
    """
    architecture = ARCHITECTURES.get(name)
    fixed = {**overrides, "vocab_size": vocab_size}
    if size is None:
        config = architecture.config.parse(fixed)
    else:
        refuse_chosen(architecture, size, match, fixed)
        config = solve(architecture, size, match, fixed)
    return build_model(architecture, config, seed)


def compare(
    arms: Sequence[str],
    out: Path | str,
    listener: Listener | None = None,
    workers: int | None = None,
    **settings: Any,
) -> StudyRecord:
    """Run a study in the folder `out` and return its record; the same call continues an interrupted one.

    `arms` are written as on the command line: "gpt1", "rwkv6:head_dim=32", "slow=gpt1:lr=1e-4". More arms or seeds than
    the study in `out` has are added to it. `workers` is the number of runs at a time, None for automatic. `settings`
    are the keys of config.yaml, nested: `seeds=[0, 1]`, `training={"tokens": 100_000}`.
    """
    loaded = [plugin.path for plugin in loaded_plugins() if plugin.path.is_file()]
    config = with_digests(StudyConfig.parse({"arms": list(arms), **settings}), loaded)
    return compare_study(config, Path(out), listener, workers)


def gate(
    candidates: Sequence[str],
    against: str,
    out: Path | str,
    budget: str | None = None,
    rule: str = DEFAULT_RULE,
    sizes: Sequence[int] = (),
    seeds: int | None = None,
    rates: Sequence[float] = RATES,
    tokens_per_parameter: float = TOKENS_PER_PARAMETER,
    placebo: bool = False,
    memory: bool = False,
    listener: Listener | None = None,
    workers: int | None = None,
    **settings: Any,
) -> GateRecord:
    """Decide whether `candidates` deserve to be scaled, in the folder `out`; the same call continues where it stopped.

    Arms are written as on the command line. `budget` (30m, 8h, 1e15flops) chooses the sizes, or `sizes` names them.
    `rule` is the name of one, or a YAML file. `memory` measures what the
    arms remember even where the rule does not ask. `settings` are the keys of config.yaml, as in `compare`.
    """
    loaded = [plugin.path for plugin in loaded_plugins() if plugin.path.is_file()]
    training = {"batch_tokens": BATCH_TOKENS, **settings.pop("training", {})}
    values = {"arms": [*candidates, against], "seeds": [0], "training": training, **settings}
    study = with_digests(StudyConfig.parse(values), loaded)
    request = GateRequest(
        candidates=study.arms[:-1],
        baseline=study.arms[-1],
        study=study,
        rule=read_rule(rule),
        budget=None if budget is None else parse_budget(budget),
        sizes=sizes,
        seeds=seeds,
        rates=sorted(rates),
        tokens_per_parameter=tokens_per_parameter,
        placebo=placebo,
        memory=memory,
    )
    found = carry_out_gate(request, Path(out), listener or Silent(), workers)
    if isinstance(found, GateRecord):
        return found
    raise TypeError("a plan was returned where a verdict was asked for")


def measure(
    *subjects: Path | str,
    only: Sequence[str] | None = None,
    at: Sequence[str] = ("init", "trained"),
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
    how = How(quick, parse_moments(at))
    return look_at_all([str(subject) for subject in subjects], only, settings, lambda _: None, how)
