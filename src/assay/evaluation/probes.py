"""Linear probes: how many bits about a class a multinomial logistic regression reads from features, held out.

Shapes: n samples, D features, K classes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

PENALTIES = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""Half of it times the squared weights is added to the mean loss; tried from the strongest on, until it gets worse."""
FEATURES = (16, 64)
"""So many of the features are tried before all of them: the last ones, the largest components of `whitened`."""
STEPS = 15
"""L-BFGS iterations for each penalty, each beginning where the last one ended."""
ERRORS = 2.0
"""Standard errors by which a probe must be better than the frequencies of the classes, where its penalty is chosen."""
BACK_OFF = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0)
"""How many samples of the classes' frequencies are added to what was counted after a token."""
SMALLEST_STD = 1e-6
REFITS = 6
"""Groups of sources that a probe is fitted again without, one after the other, which says how far it hangs on them."""


class Samples(NamedTuple):
    """Features and the class of each sample."""

    x: Float[Tensor, "n D"]
    y: Int[Tensor, " n"]


class Parts(NamedTuple):
    """The three parts that samples fall into: where a probe is fitted, its penalty chosen, and its bits are counted."""

    fit: NDArray[np.bool_]
    choose: NDArray[np.bool_]
    test: NDArray[np.bool_]


class Probed(NamedTuple):
    """Nats of the m test samples' classes."""

    nats: Float[Tensor, " m"]
    refits: Float[Tensor, "G m"]
    """Of what is fitted without one group each; none where no probe is told to be better than the frequencies."""

    def below(self, floor: "Probed") -> "Probed":
        """By how much these are below those of a floor that was fitted on the same samples."""
        refits = floor.refits - self.refits if len(self.refits) else self.refits
        return Probed(floor.nats - self.nats, refits)


def probe_nats(x: Float[Tensor, "n D"], y: Int[Tensor, " n"], classes: int, parts: Parts) -> Float[Tensor, " m"]:
    """Those of `probed`."""
    return probed(x, y, classes, parts, np.zeros(len(y), np.int64)).nats


def probed(
    x: Float[Tensor, "n D"], y: Int[Tensor, " n"], classes: int, parts: Parts, group: NDArray[np.int64]
) -> Probed:
    """Nats of the test samples' classes by the probe; those of `constant` where none is told to be better.

    The probe is softmax(x W + b), fitted on one part; how many of the features it reads, from the last on, and its
    penalty are those that are best on another (Xu et al. 2020: the information that is usable by this family of
    predictors). It is fitted again without each `group` [n] of samples, none where all are of one. The same arguments
    give the same numbers.
    """
    fit, choose, test = (Samples(x[mask], y[mask]) for mask in map(torch.from_numpy, parts))
    frequencies = _frequencies(fit.y, classes)
    best, best_nats, best_penalty = torch.zeros(1, classes), float(-frequencies[choose.y].mean()), PENALTIES[0]
    best[-1] = frequencies
    for features in (*(number for number in FEATURES if number < x.shape[1]), x.shape[1]):
        weights = _widened(best, features)
        before = math.inf
        for penalty in PENALTIES:
            weights = _fitted(weights, Samples(fit.x[:, -features:], fit.y), penalty)
            nats = float(F.cross_entropy(_logits(weights, choose.x), choose.y))
            if nats < best_nats:
                best, best_nats, best_penalty = weights, nats, penalty
            if not nats < before:
                break
            before = nats
    gained = -frequencies[choose.y] - F.cross_entropy(_logits(best, choose.x), choose.y, reduction="none")
    if not float(gained.mean()) > ERRORS * float(gained.std()) / math.sqrt(len(gained)):
        return Probed(-frequencies[test.y], x.new_zeros(0, len(test.y)))

    def again(kept: Tensor) -> Tensor:
        """Nats by the probe that is fitted again on those kept; by the chosen one where all are."""
        if bool(kept.all()):
            return _nats(best, test)
        return _nats(
            _fitted(best, Samples(fit.x[kept, fit.x.shape[1] - len(best) + 1 :], fit.y[kept]), best_penalty), test
        )

    return _refitted(again, group[parts.fit])


def _nats(weights: Float[Tensor, "E K"], samples: Samples) -> Float[Tensor, " m"]:
    return F.cross_entropy(_logits(weights, samples.x), samples.y, reduction="none")


def _widened(weights: Float[Tensor, "E K"], features: int) -> Float[Tensor, "F K"]:
    """The same weights for more features, those that are added unread."""
    return F.pad(weights, (0, 0, features + 1 - len(weights), 0))


def constant(y: Int[Tensor, " n"], classes: int, parts: Parts, group: NDArray[np.int64]) -> Probed:
    """Nats of the test samples' classes by their frequencies in the part that is fitted, one added to each count.

    They are counted again without each `group` [n] of samples, none where all are of one.
    """
    fit, test = torch.from_numpy(parts.fit), torch.from_numpy(parts.test)
    return _refitted(lambda kept: -_frequencies(y[fit][kept], classes)[y[test]], group[parts.fit])


def _refitted(nats: Callable[[Tensor], Tensor], group: NDArray[np.int64]) -> Probed:
    """Of all samples that are fitted, and of all but those of each group; `nats` is of a mask of those kept."""
    of_fit = torch.from_numpy(group)
    groups = of_fit.unique()
    found = nats(torch.ones_like(of_fit, dtype=torch.bool))
    refits = [nats(of_fit != left_out) for left_out in groups] if len(groups) > 1 else []
    return Probed(found, torch.stack(refits) if refits else found.new_zeros(0, len(found)))


def tabled(
    token: Int[Tensor, " n"],
    y: Int[Tensor, " n"],
    tokens: int,
    classes: int,
    parts: Parts,
    group: NDArray[np.int64],
) -> Probed:
    """Nats of the test samples' classes by a table of what followed each token, backed off to the frequencies.

    The table is counted again without each `group` [n] of samples, none where all are of one.
    """
    fit, choose, test = map(torch.from_numpy, parts)

    def nats(kept: Tensor, part: Tensor, back_off: float) -> Tensor:
        followed = y[fit][kept]
        frequencies = _frequencies(followed, classes).exp()
        counts = torch.zeros(tokens, classes)
        counts.index_put_((token[fit][kept], followed), torch.ones(len(followed)), accumulate=True)
        of = counts[token[part]]
        p = (of + back_off * frequencies) / (of.sum(1, keepdim=True) + back_off)
        return -p.gather(1, y[part][:, None])[:, 0].log()

    everything = torch.ones(int(fit.sum()), dtype=torch.bool)
    best = min(BACK_OFF, key=lambda back_off: float(nats(everything, choose, back_off).mean()))
    return _refitted(lambda kept: nats(kept, test, best), group[parts.fit])


def whitened(x: Float[Tensor, "n D"], dimensions: int, parts: Parts) -> Float[Tensor, "n d"]:
    """The `dimensions` principal components that are largest on the part that is fitted, the largest last.

    Each has variance 1 there.
    """
    fit = x[torch.from_numpy(parts.fit)].double()
    mean = fit.mean(0)
    values, vectors = torch.linalg.eigh((fit - mean).T @ (fit - mean) / max(1, len(fit) - 1))
    kept = values > max(float(values[-1]), 0.0) * SMALLEST_STD + SMALLEST_STD**2
    values, vectors = values[kept][-dimensions:], vectors[:, kept][:, -dimensions:]
    if not len(values):
        return x.new_zeros(len(x), 1)
    components: Tensor = (x.double() - mean) @ (vectors / values.sqrt())
    return components.float()


def _frequencies(y: Int[Tensor, " n"], classes: int) -> Float[Tensor, " K"]:
    """Log shares of the classes, one added to each count."""
    counts = torch.bincount(y, minlength=classes).float() + 1
    return (counts / counts.sum()).log()


def _logits(weights: Float[Tensor, "E K"], x: Float[Tensor, "n D"]) -> Float[Tensor, "n K"]:
    """The last row of the weights is the bias; those before are of the last features."""
    features = len(weights) - 1
    return torch.addmm(weights[-1], x[:, x.shape[1] - features :], weights[:-1])


def _fitted(start: Float[Tensor, "E K"], samples: Samples, penalty: float) -> Float[Tensor, "E K"]:
    """L-BFGS (Liu and Nocedal 1989) from `start`."""
    x, y = samples
    one_hot = F.one_hot(y, start.shape[1]).float()

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = torch.from_numpy(flat).float().view(start.shape)
        logits = _logits(weights, x)
        log_p = logits.log_softmax(1)
        error = (log_p.exp() - one_hot) / len(x)
        gradient = torch.cat([x.T @ error + penalty * weights[:-1], error.sum(0, keepdim=True)])
        nats = -float((log_p * one_hot).sum()) / len(x) + penalty / 2 * float(weights[:-1].square().sum())
        return nats, gradient.double().flatten().numpy()

    found = minimize(
        loss, start.double().flatten().numpy(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "maxcor": 10}
    )
    return torch.from_numpy(found.x).float().view(start.shape)


def in_bits(nats: float) -> float:
    """Of a number in nats."""
    return nats / math.log(2)
