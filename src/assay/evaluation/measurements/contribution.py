"""What each part of a model contributes: the change of its loss when the part's output is replaced."""

import math
from collections.abc import Sequence

from assay.analysis.intervals.texts import said_of
from assay.evaluation.ablation import CONTROL, KINDS, Ablated, AblationProtocol, ablated
from assay.evaluation.measurement import Given, Measurement, Moment, Reader, register
from assay.records import Column, FigurePoint, Interval, MeasuredFigure, Record

WHOLE = AblationProtocol(windows=64, tokens=None, kinds=KINDS)
QUICK = AblationProtocol(windows=24, tokens=64, kinds=("mean", CONTROL), parts=("mixer", "mlp", "path"))
SMALL_PATH = 0.05
"""Document 000's target for the Mamba path of a fused model: a contribution above 5%."""


class Effect(Record):
    """The loss that one replacement costs; negative where the model predicts better without the part."""

    part: str
    """block, mixer, mlp, path or head."""
    name: str
    block: int | None
    """None is this part of every block at once."""
    kind: str
    """zero, mean, resample, or control: the output moved in a random direction, by its own length."""
    nats: Interval
    """Nats per token."""


class PathShare(Record):
    """(loss that this path's replacement costs) / (the same summed over all paths), each path in all blocks at once."""

    path: str
    kind: str
    share: float | None
    """None where that sum is not told from zero."""
    low: float | None
    high: float | None


class ContributionProfile(Record):
    """All replacements in one model."""

    nats_per_token: float
    """Of the whole model on the same tokens."""
    windows: int
    tokens: int
    """Targets that are scored."""
    over: str
    """What the intervals are over: sources or windows."""
    drawn: int
    """How many of these."""
    effects: list[Effect]
    shares: list[PathShare]

    def effect(self, part: str, name: str | None = None, block: int | None = None, kind: str = "mean") -> Effect | None:
        """The effect at one site; any name where none is given."""
        for effect in self.effects:
            if (effect.part, effect.block, effect.kind) == (part, block, kind) and name in (None, effect.name):
                return effect
        return None


class Contribution(Record):
    """Of the untrained and of the trained weights; None where there are none."""

    initial: ContributionProfile | None
    trained: ContributionProfile | None


class MeasureContribution(Measurement[Contribution]):
    """Ablation of blocks, mixers, MLPs, heads and paths."""

    name = "contribution"
    question = "How much worse does the model predict when one part's output is replaced?"
    unit = "nats per token"
    group = "character"
    needs = frozenset({"initial", "trained"})
    needs_all = False
    record = Contribution
    quick = (
        f"{QUICK.windows} windows of at most {QUICK.tokens} tokens, mixers, MLPs and paths by mean and control alone, "
        "untrained weights only where there are no others"
    )

    def measure(self, given: Given, readers: Sequence[Reader]) -> Contribution:
        protocol = QUICK if given.quick else WHOLE
        profiles: dict[Moment, ContributionProfile] = {
            moment: as_profile(ablated(given.model(moment), given.held_out, given.plan, protocol, tell=given.tell))
            for moment in (given.moments[-1:] if given.quick else given.moments)
        }
        return Contribution(initial=profiles.get("initial"), trained=profiles.get("trained"))

    def columns(self, values: Contribution) -> list[Column]:
        profile = values.trained or values.initial
        columns = []
        for part, head in (("mixer", "mixers"), ("mlp", "MLPs")):
            nats = None if profile is None else _interval(profile.effect(part, "all"))
            columns.append(
                Column(
                    key=part,
                    head="nats without",
                    second=head,
                    format="nats",
                    value=None if nats is None else nats.mean,
                    low=None if nats is None else nats.low,
                    high=None if nats is None else nats.high,
                )
            )
        return columns

    def figures(self, values: Contribution) -> list[MeasuredFigure]:
        profile = values.trained or values.initial
        if profile is None:
            return []
        effects = [e for e in profile.effects if e.block is not None and e.part in ("mixer", "mlp", "path")]
        effects = [effect for effect in effects if effect.kind == "mean"]
        series = list(dict.fromkeys(map(_series, effects)))
        return [
            MeasuredFigure(
                name="contribution",
                title="What each part contributes, by block",
                caption="Nats per token that are lost where the part's output is replaced by its mean over all tokens"
                f"{'' if values.trained else ', untrained'}, with the 95% interval: over seeds, or with one seed over "
                "texts. Parts may stand in for each other, so that losses do not add up.",
                kind="bars",
                x_title="block",
                x_called="block",
                x_names={str(effect.block): str(effect.block) for effect in effects},
                y_title="nats per token",
                unit="nats_per_token",
                series=series,
                series_called="part",
                points=[
                    FigurePoint(x=e.block or 0, y=e.nats.mean, low=e.nats.low, high=e.nats.high, series=_series(e))
                    for e in effects
                ],
            )
        ]

    def sentences(self, values: Contribution) -> list[str]:
        lines = []
        for profile, when in ((values.trained, ""), (values.initial, "Untrained: ")):
            if profile is not None and (profile is values.trained or values.trained is None):
                lines += [f"{when}{line}" for line in _said(profile)]
                lines += said_of(profile.over, self.name)
        return lines


def as_profile(found: Ablated) -> ContributionProfile:
    """The numbers of `found` with their intervals."""
    effects = [
        Effect(part=site.part, name=site.name, block=site.block, kind=kind, nats=found.interval(index, kind))
        for index, site in enumerate(found.sites)
        for kind in found.kinds
    ]
    shares = [
        PathShare(path=path, kind=kind, share=share and share.mean, low=share and share.low, high=share and share.high)
        for kind in found.kinds
        if kind != CONTROL
        for path, share in found.shares(kind).items()
    ]
    return ContributionProfile(
        nats_per_token=float(found.nats.sum() / found.scored.sum()),
        windows=len(found.scored),
        tokens=int(found.scored.sum()),
        over=found.drawn.over,
        drawn=found.drawn.size,
        effects=effects,
        shares=shares,
    )


def _interval(effect: Effect | None) -> Interval | None:
    return None if effect is None else effect.nats


def _series(effect: Effect) -> str:
    return f"{effect.name} path" if effect.part == "path" else {"mlp": "MLP"}.get(effect.part, effect.part)


def in_words(interval: Interval) -> str:
    """ "0.123 nats (0.100 to 0.146)"."""
    ends = "" if interval.low is None else f" ({interval.low:z.3f} to {interval.high:z.3f})"
    return f"{interval.mean:z.3f} nats{ends}"


def _said(profile: ContributionProfile) -> list[str]:
    if not math.isfinite(profile.nats_per_token):
        return ["Its loss is not finite, so that nothing can be said of what its parts cost."]
    lines = []
    parts = [e for e in profile.effects if e.block is not None and e.part in ("mixer", "mlp") and e.kind == "mean"]
    if parts and not any(effect.nats.low is not None and effect.nats.low > 0 for effect in parts):
        lines.append("no mixer and no MLP costs what is told from zero when it is replaced by its mean.")
    elif parts:
        most = max(parts, key=lambda effect: effect.nats.mean)
        control = profile.effect(most.part, most.name, most.block, CONTROL)
        beside = "" if control is None else f"; a random change of its output's length costs {in_words(control.nats)}"
        called = "MLP" if most.part == "mlp" else "mixer"
        lines.append(
            f"the {called} of block {most.block} matters most: replaced by its mean it costs {in_words(most.nats)}"
            f"{beside}."
        )
    for share in profile.shares:
        if share.kind != "mean":
            continue
        if share.share is None or share.low is None or share.high is None:
            lines.append(f"the share of the {share.path} path is not told: replacing all paths costs too little.")
            continue
        verdict = "above" if share.low > SMALL_PATH else "under" if share.high < SMALL_PATH else "not told from"
        lines.append(
            f"the {share.path} path has {share.share:.0%} ({share.low:.0%} to {share.high:.0%}) of what all paths "
            f"contribute, {verdict} document 000's {SMALL_PATH:.0%}."
        )
    return [line[0].upper() + line[1:] for line in lines]


register(MeasureContribution())
