"""In what arms differ beyond their mixer, read off their specs: settings, shapes, another draw."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from assay.analysis.ranking.entrants import Entrant
from assay.analysis.wording import join_names, who_has_which
from assay.config import flat

BODIES = {
    "native": "Body native: each architecture as published, so norm, channel mixer, positions and initialisation "
    "differ along with the mixer.",
    "common": "Body common: tables, norms, SwiGLU and head are shared; only the mixer differs.",
}
COMMON_BUT_OTHERWISE_DIFFERENT = "Body common: tables, norms, SwiGLU and head are shared."
NAMES = {"seed", "replicate", "label", "architecture", "size", "training.learning_rate"}
"""Keys of a spec that other sentences speak of."""
ALL_HAVE = ("body", "initialisation", "dropout")
"""Dimensions that mean the same in every architecture, whatever its body; of heads a sentence speaks."""
HEADS = ("heads", "tied_embeddings")
"""What is said of heads: today's key and the one that it replaced."""
SHAPE = ("d_model", "n_layers", "d_ff")
"""And those that do where the body is common."""

Values = Mapping[str, Hashable]


def said(sizes: Mapping[str, Sequence[Entrant]], body: str) -> list[str]:
    """`sizes`: name of a size (empty where there is one) -> its arms; `body`: what the study set for all.

    Arms without a spec (of version 1) say nothing.
    """
    told = {name: [entrant for entrant in of if entrant.any.spec] for name, of in sizes.items()}
    entrants = [entrant for of in told.values() for entrant in of]
    bodies = {str(_model(entrant).get("body", body)) for entrant in entrants} or {body}
    common = bodies == {"common"}
    settings = _listed("Beyond the mixer, arms differ in", "", entrants, _settings(entrants))
    shapes: list[str] = []
    if common:
        by_size = {name: _dimensions(of, SHAPE) for name, of in told.items()}
        shapes = _per_size("The common body has different shapes:", told, by_size)
    lines = settings + shapes + _within_architectures(told, SHAPE if common else ())
    if common:
        lines.insert(0, COMMON_BUT_OTHERWISE_DIFFERENT if lines else BODIES["common"])
    elif bodies == {"native"}:
        lines.insert(0, BODIES["native"])
    return lines + _heads(entrants) + _placebos(told)


def _heads(entrants: Sequence[Entrant]) -> list[str]:
    """Whether heads are tied, for all or for whom: counted, not asked, so that it is true of older records too."""
    tied: dict[str, list[str]] = {}
    for entrant in entrants:
        head = entrant.any.parameters.groups.get("head")
        if head is None:
            return []
        names = tied.setdefault("untied" if head else "tied", [])
        if entrant.point.group not in names:
            names.append(entrant.point.group)
    if not tied:
        return []
    asked = {_model(entrant).get("heads") for entrant in entrants}
    published = "as published" if asked == {"published"} else ""
    if len(tied) == 1:
        (which,) = tied
        return [f"Heads {f'{published}: ' if published else ''}{which} for all."]
    who = ", ".join(f"{which} for {join_names(names)}" for which, names in sorted(tied.items()))
    return [f"Heads {published or 'differ'}: {who}."]


def _settings(entrants: Sequence[Entrant]) -> dict[str, Values]:
    """Everything but shapes in which arms differ: key -> label -> value."""
    leaves = {entrant.label: _flat(entrant.any.spec) for entrant in entrants}
    # What the mixer is made of is no difference beyond it: dimensions, and the plug-in that brings it.
    keys = dict.fromkeys(key for of in leaves.values() for key in of if not key.startswith(("model.", "plugins.")))
    found = {key: {label: of.get(key) for label, of in leaves.items()} for key in keys if key not in NAMES}
    return _differing(found) | _dimensions(entrants, ALL_HAVE)


def _dimensions(entrants: Sequence[Entrant], keys: Sequence[str]) -> dict[str, Values]:
    return _differing({key: {e.label: _hashable(_model(e).get(key)) for e in entrants} for key in keys})


def _within_architectures(told: Mapping[str, Sequence[Entrant]], said_already: Sequence[str]) -> list[str]:
    """For every two or more arms of one architecture, each further dimension in which they differ."""
    lines: list[str] = []
    for architecture in dict.fromkeys(entrant.any.architecture for of in told.values() for entrant in of):
        alike = {name: [e for e in of if e.any.architecture == architecture] for name, of in told.items()}
        by_size = {}
        for name, of in alike.items():
            keys = dict.fromkeys(key for entrant in of for key in _model(entrant))
            by_size[name] = _dimensions(of, [key for key in keys if key not in (*ALL_HAVE, *HEADS, *said_already)])
        lines += _per_size(f"Arms of {architecture} differ in", alike, by_size)
    return lines


def _per_size(
    start: str, entrants: Mapping[str, Sequence[Entrant]], found: Mapping[str, Mapping[str, Values]]
) -> list[str]:
    """One sentence where it is the same at all sizes, else one for each of them."""
    texts = {name: _listed(start, "", entrants[name], of) for name, of in found.items()}
    same = list(texts.values())
    if all(of == same[0] for of in same):
        return same[0]
    return [line for name, of in found.items() for line in _listed(start, name, entrants[name], of)]


def _listed(start: str, size: str, entrants: Sequence[Entrant], found: Mapping[str, Values]) -> list[str]:
    if not found:
        return []
    groups = {entrant.label: entrant.point.group for entrant in entrants}
    texts = [f"{key.removeprefix('training.')} ({who_has_which(values, groups)})" for key, values in found.items()]
    return [
        f"{f'At {size}: ' if size else ''}{start if not size else start[0].lower() + start[1:]} {join_names(texts)}."
    ]


def _placebos(told: Mapping[str, Sequence[Entrant]]) -> list[str]:
    """Arms that are another arm with another draw: their difference is what chance alone does."""
    twins: dict[tuple[str, str | None, int], None] = {}
    for entrants in told.values():
        for entrant in entrants:
            alike = [other for other in entrants if _but_for_the_draw(other) == _but_for_the_draw(entrant)]
            first = min(alike, key=lambda other: other.any.replicate)
            if entrant.any.replicate and first is entrant:
                twins[entrant.point.group, None, entrant.any.replicate] = None
            elif first is not entrant:
                twins[entrant.point.group, first.point.group, entrant.any.replicate] = None
    draw = "another draw of initialisation and dropout (replicate"
    return [
        f"{name} has {draw} {replicate})." if twin is None else f"{name} is {twin} with {draw} {replicate}): a placebo."
        for name, twin, replicate in twins
    ]


def _but_for_the_draw(entrant: Entrant) -> tuple[str, dict[str, Hashable]]:
    leaves = _flat(entrant.any.spec)
    return entrant.any.architecture, {k: v for k, v in leaves.items() if k not in ("seed", "replicate", "label")}


def _differing(found: Mapping[str, Values]) -> dict[str, Values]:
    return {key: values for key, values in found.items() if len(set(values.values())) > 1}


def _model(entrant: Entrant) -> Mapping[str, Any]:
    model: Mapping[str, Any] = entrant.any.spec.get("model", {})
    return model


def _flat(spec: Mapping[str, Any]) -> dict[str, Hashable]:
    """ "training.weight_decay" -> 0.1 for every leaf."""
    return {key: _hashable(value) for key, value in flat(spec).items()}


def _hashable(value: Any) -> Hashable:
    return str(value) if isinstance(value, list | dict) else value
