"""What the parts of an arm contribute, over its seeds: the loss that replacing a part by its mean costs."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from assay.analysis.character.inside import Inside
from assay.analysis.statistics import mean_interval
from assay.records import Interval

KIND = "mean"
"""The replacement that is told of: the part's output becomes its mean over all tokens."""
CALLED = {"mixer": "the mixer", "mlp": "the MLP", "path": "the path", "block": "block", "head": "the head"}


class Effect(NamedTuple):
    """Nats per token that replacing one part costs."""

    part: str
    name: str
    block: int | None
    """None is this part of every block at once."""
    by_seed: Mapping[int, float]
    over_seeds: Interval
    """With one seed the measurement's own, over texts."""

    @property
    def called(self) -> str:
        """The MLP of block 0."""
        return f"{CALLED.get(self.part, self.part)} of block {self.block}"


def effects_of(of: Mapping[int, Inside]) -> list[Effect]:
    """Every part that was replaced by its mean."""
    found: dict[tuple[str, str, int | None], dict[int, Interval]] = {}
    for seed, one in of.items():
        for effect in one.values["effects"]:
            if effect["kind"] == KIND:
                key = effect["part"], effect["name"], effect["block"]
                found.setdefault(key, {})[seed] = Interval.model_validate(effect["nats"])
    return [
        Effect(*key, {seed: nats.mean for seed, nats in by_seed.items()}, _over_seeds(list(by_seed.values())))
        for key, by_seed in found.items()
    ]


def _over_seeds(of: Sequence[Interval]) -> Interval:
    return of[0] if len(of) == 1 else mean_interval([nats.mean for nats in of])


def all_of(effects: Sequence[Effect], part: str) -> Effect | None:
    """The effect of replacing `part` in all blocks at once."""
    return next((effect for effect in effects if (effect.part, effect.name, effect.block) == (part, "all", None)), None)


def shares_of(of: Mapping[int, Inside]) -> dict[str, float]:
    """Path of a fused model -> its share, a mean over seeds; empty where there are none, or a seed does not tell."""
    found: dict[str, list[float]] = {}
    for one in of.values():
        for share in one.values["shares"]:
            if share["kind"] == KIND and share["share"] is not None:
                found.setdefault(share["path"], []).append(share["share"])
    return {path: sum(shares) / len(shares) for path, shares in found.items() if len(shares) == len(of)}


def which_matters(mixers: Effect, mlps: Effect) -> Literal["mixers", "MLPs", "unclear", "one seed"]:
    """Which costs more without all of them: by the interval over seeds of the difference."""
    seeds = sorted(mixers.by_seed.keys() & mlps.by_seed.keys())
    found = mean_interval([mixers.by_seed[seed] - mlps.by_seed[seed] for seed in seeds])
    if found.low is None or found.high is None:
        return "one seed"
    return "mixers" if found.low > 0 else "MLPs" if found.high < 0 else "unclear"


def in_nats(effect: Effect) -> str:
    """ "0.123 nats (0.100 to 0.146)"."""
    nats = effect.over_seeds
    return f"{nats.mean:z.3f} nats" + ("" if nats.low is None else f" ({nats.low:z.3f} to {nats.high:z.3f})")
