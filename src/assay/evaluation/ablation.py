"""Replaces the output of one part of a model after the other, and scores the same windows each time.

Shapes: N windows, B of them in one pass, T tokens, C channels of a place.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.analysis.intervals.proportions import Share
from assay.analysis.intervals.ratios import ratio_interval
from assay.analysis.intervals.texts import Drawn, over_drawn
from assay.data.scoring import ScoringWindows
from assay.evaluation.passes import windows_at_once
from assay.evaluation.resumed import Resumable, window_nats
from assay.evaluation.sampling import Sampled, sampled
from assay.evaluation.sites import PARTS, Change, Part, Place, Site, replaced, seen, sites_of
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Interval
from assay.seeding import derive

Kind = Literal["zero", "mean", "resample", "control"]
"""Zeros; the mean over all tokens of all windows; the output of another window at the same position; as the control
the output moved in a random direction, by its own length at each position."""
KINDS: tuple[Kind, ...] = get_args(Kind)
CONTROL: Kind = "control"
PASS_TOKENS = 2_048
"""Tokens of a forward pass at most, where a window is not longer: what every block is given is kept meanwhile."""


class AblationProtocol(NamedTuple):
    """How much is read: windows, tokens of each (None is all), which replacements, of which parts."""

    windows: int
    tokens: int | None
    kinds: Sequence[Kind]
    parts: Sequence[Part] = PARTS


class Ablated(NamedTuple):
    """Summed nats of each window, as the model is and after each replacement."""

    sites: list[Site]
    kinds: Sequence[Kind]
    scored: np.ndarray
    """[N] targets."""
    nats: np.ndarray
    """[N], of the model as it is."""
    lost: np.ndarray
    """[sites, kinds, N], nats after each replacement less those before."""
    drawn: Drawn

    def interval(self, site: int, kind: Kind) -> Interval:
        """Nats per token that the replacement costs."""
        return over_drawn(self.lost[site, self.kinds.index(kind)], self.scored, self.drawn)

    def shares(self, kind: Kind) -> dict[str, Share | None]:
        """Path -> its loss over the sum of all paths' losses, each path replaced in all blocks at once."""
        paths = {
            site.name: index for index, site in enumerate(self.sites) if site.part == "path" and site.block is None
        }
        _, cluster = np.unique(self.drawn.numbers, return_inverse=True)
        of = self.kinds.index(kind)
        lost = {name: np.bincount(cluster, weights=self.lost[index, of]) for name, index in paths.items()}
        if len(lost) < 2:
            return {}
        together = np.sum(list(lost.values()), axis=0)
        return {name: ratio_interval(sums.tolist(), together.tolist()) for name, sums in lost.items()}


@torch.no_grad()
def ablated(
    model: LanguageModel,
    windows: ScoringWindows,
    plan: ExecutionPlan,
    protocol: AblationProtocol,
    seed: int = 0,
    pass_tokens: int = PASS_TOKENS,
    tell: Callable[[str], None] = lambda _: None,
) -> Ablated:
    """Score windows drawn by `seed` with every site of `model` replaced in every way of `protocol`.

    Nothing is resampled where there is one window. `pass_tokens` decides how much memory it takes and nothing else. The
    model is in evaluation mode meanwhile.
    """
    sample = sampled(windows, seed, protocol.windows, protocol.tokens)
    sites = sites_of(model, protocol.parts)
    kinds = [kind for kind in protocol.kinds if kind != "resample" or len(sample.inputs) > 1]
    training = model.training
    model.eval()
    try:
        return _Ablation(model, sample, plan, sites, kinds, seed, pass_tokens).carried_out(tell)
    finally:
        model.train(training)


class _Ablation:
    """One model on one sample; windows stand in a circle, and each takes what is resampled from the next."""

    def __init__(
        self,
        model: LanguageModel,
        sample: Sampled,
        plan: ExecutionPlan,
        sites: list[Site],
        kinds: Sequence[Kind],
        seed: int,
        pass_tokens: int,
    ) -> None:
        self.model, self.sample, self.plan, self.seed = model, sample, plan, seed
        self.sites, self.kinds = sites, kinds
        self.at_once = windows_at_once(model, sample.inputs.shape[1], pass_tokens)
        whole = {_tensor(place): place for site in sites for place in site.places}
        self.tensors = [place._replace(first=0, end=None) for place in whole.values()]
        """One place for each tensor that is read: heads share theirs."""

    def carried_out(self, tell: Callable[[str], None]) -> Ablated:
        n = len(self.sample.inputs)
        means = self._means() if "mean" in self.kinds else {}
        nats, lost = np.zeros(n), np.zeros((len(self.sites), len(self.kinds), n))
        for low in range(0, n, self.at_once):
            tell(f"contribution: window {low} of {n}")
            rows = np.arange(low, min(n, low + self.at_once))
            nats[rows], lost[:, :, rows] = self._replacements(rows, means)
        return Ablated(self.sites, self.kinds, self.sample.scored, nats, lost, self.sample.drawn)

    def _means(self) -> dict[object, Float[Tensor, " C"]]:
        """The mean of every tensor over all tokens of all windows."""
        sums: dict[object, Tensor] = {}

        def add(place: Place, x: Tensor) -> None:
            of = x.double().sum((0, 1))
            sums[_tensor(place)] = of + sums[_tensor(place)] if _tensor(place) in sums else of

        with seen(self.tensors, add), self.plan.autocast():
            for low in range(0, len(self.sample.inputs), self.at_once):
                self.model.hidden(self._ids(self.sample.inputs[low : low + self.at_once]))
        return {key: of / self.sample.inputs.size for key, of in sums.items()}

    def _replacements(self, rows: np.ndarray, means: dict[object, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Nats [B] of the windows `rows`, and what each replacement changes of them [sites, kinds, B]."""
        n = len(self.sample.inputs)
        with_next = np.append(rows, (rows[-1] + 1) % n)
        there: dict[object, Tensor] = {}
        with seen(self.tensors, lambda place, x: there.update({_tensor(place): x})):
            run = Resumable(self.model, self._ids(self.sample.inputs[with_next]), self.plan)
        targets = self._ids(self.sample.targets[with_next])

        def score(hidden: Tensor) -> np.ndarray:
            of_windows: np.ndarray = window_nats(self.model, hidden, targets, self.plan).numpy()
            return of_windows[:-1]

        before = score(run.hidden)
        lost = np.zeros((len(self.sites), len(self.kinds), len(rows)))
        for number, site in enumerate(self.sites):
            for index, kind in enumerate(self.kinds):
                with replaced(site.places, self._change(kind, with_next, there, means)):
                    lost[number, index] = score(run.resumed(site.first_block)) - before
        return before, lost

    def _change(self, kind: Kind, rows: np.ndarray, there: dict[object, Tensor], means: dict[object, Tensor]) -> Change:
        def mean(place: Place, x: Tensor) -> Tensor:
            return place.part(means[_tensor(place)]).to(x.dtype).expand_as(x)

        def resample(place: Place, x: Tensor) -> Tensor:
            return place.part(there[_tensor(place)]).roll(-1, 0).to(x.dtype)

        def control(place: Place, x: Tensor) -> Tensor:
            drawn = torch.stack([self._direction(place, int(row), x.shape[1:]) for row in rows]).to(x.device)
            moved: Tensor = (x + x.float().norm(dim=-1, keepdim=True) * drawn).to(x.dtype)
            return moved

        changes: dict[Kind, Change] = {
            "zero": lambda _, x: torch.zeros_like(x),
            "mean": mean,
            "resample": resample,
            "control": control,
        }
        return changes[kind]

    def _direction(self, place: Place, row: int, shape: Sequence[int]) -> Float[Tensor, "T C"]:
        """A direction of length 1 at each position: of the seed, the place and the window alone."""
        generator = torch.Generator().manual_seed(
            derive(self.seed, f"control {place.of} {place.first}", row, place.block)
        )
        return nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)

    def _ids(self, ids: np.ndarray) -> Tensor:
        return torch.from_numpy(ids).to(self.plan.device)


def _tensor(place: Place) -> tuple[int, str]:
    """What tells the tensors that places are parts of from each other."""
    return id(place.module), place.of
