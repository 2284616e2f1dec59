"""What follows from the nats of the candidates for one place: whether they are those of a probability distribution.

Shapes: N candidates, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.audit.scoring.bench import CLOSE, Bench
from assay.audit.scoring.hindsight import COARSE
from assay.audit.scoring.readings import close

UNDERFLOW = 80.0
"""From this many nats on, a probability may be zero in float32."""
MARGIN = 4.0
"""How many standard errors the estimated sum over a sample of candidates must exceed one by."""


@dataclass(frozen=True)
class Verdict:
    """Whether a score is sound (None: it cannot be told), in words, and by how much it is off.

    `off` is how far the sum over candidates is from one, or how far two numbers that must agree are apart.
    """

    sound: bool | None
    words: str
    off: float | None = None


@dataclass(frozen=True)
class Place:
    """Candidates [N] for the place after `before` tokens and what they cost.

    `nats` [N] are what the score gives them, `expected` [N] their cross-entropies, `of_all` [V] those of every id;
    `scale` is the absolute score of the tokens before. `seen` [N] marks candidates that stand before the place, `every`
    says whether all such are among them; `drawn` [N] marks those that stand for all that were not tried. `coarse` says
    that the score comes in float32 or a narrower type.
    """

    before: int
    candidates: Tensor
    nats: Tensor
    expected: Tensor
    of_all: Tensor
    scale: float
    seen: Tensor
    every: bool
    drawn: Tensor
    coarse: bool


def judged(bench: Bench, place: Place) -> Verdict:
    """Judge by the sum over all candidates, known or extrapolated from a sample, and by comparison with cross-entropy.

    A distribution that gives some candidates more probability than the softmax must give others less, and vice versa:
    where all differences have one sign, the score is no distribution.
    """
    N, V = len(place.nats), len(place.of_all)
    slack = max(bench.slack, place.coarse * COARSE * place.scale)
    total = (-place.nats).exp().sum().item() if N == V else _continued(place, slack)
    after = f" after {place.before} tokens" if place.before > 1 else ""
    told = _in_words(place, slack)
    name = f"{name_of(bench)}{': ' + told if told else ''}"
    excess = (place.expected - place.nats) / place.expected.clamp_min(1)
    wrong = ~(excess.abs() <= slack)
    cheaper, dearer = bool((excess > slack).any()), bool((excess < -slack).any())
    if total is not None and not abs(total - 1) <= slack * (max(1.0, place.scale) if bench.slack > CLOSE else 1):
        return Verdict(False, f"{name}; its {V} candidates sum to {total:.9g}{after}", abs(total - 1))
    probabilities = (-place.nats).exp()
    gain = (probabilities - (-place.expected).exp())[wrong].sum().item()
    right = ~wrong & (place.expected > 1)
    equal = int(right.sum()) > 1
    # Less gain than a sum shows is a fault where the dearest are spared: a fair score may favour a single id.
    spared = equal and bool(place.expected[wrong].amin() >= place.expected[right].amax()) if wrong.any() else False
    if bool(place.nats.isnan().any()) or (cheaper and not dearer and (gain > slack or spared)):
        words = f"{name}; of {N} candidates tried{after} none costs more than its cross-entropy, and some less"
        return Verdict(False, words, excess.amax().item())
    underflow = place.nats.isinf() & (place.expected > UNDERFLOW)
    if bool((wrong & ~underflow).any()) and dearer and not cheaper and equal and not (N == V and -gain <= slack):
        words = f"{name}; of {N} candidates tried{after} none costs less than its cross-entropy, and some more"
        return Verdict(False, words, -excess[~underflow].amin().item())
    least = probabilities.sum().item() if total is None else 1.0
    if least > 1 + slack:
        words = f"{name}; {N} of its {V} candidates sum to {least:.6g}{after}, which is more than one"
        return Verdict(False, words, least - 1)
    about, error = _estimated(place, probabilities) if total is None else (1.0, 0.0)
    if about - MARGIN * error > 1:
        words = f"{name}; its {V} candidates sum to about {about:.3g}{after}, as a sample of {N} shows"
        return Verdict(False, words, about - 1)
    if total is None:
        return Verdict(None, f"{name}, and {V} candidates are too many to score")
    return Verdict(True, f"{name}; its {V} candidates sum to {total:.9g}{after}", abs(total - 1))


def _continued(place: Place, slack: float) -> float | None:
    """The sum over all candidates, where nats = a * cross-entropy + b for those that were not seen before; else None.

    The ids seen before the place, as a cache favours them, may cost anything if all of them are among the candidates.
    """
    for apart in (torch.zeros_like(place.seen), place.seen if place.every else torch.zeros_like(place.seen)):
        nats, expected = place.nats[~apart], place.expected[~apart]
        low, high = int(expected.argmin()), int(expected.argmax())
        width = expected[high] - expected[low]
        part = (nats[high] - nats[low]) / width if width > slack else torch.ones_like(width)
        constant = nats[low] - part * expected[low]
        if close(nats, part * expected + constant, slack):
            rest = torch.ones_like(place.of_all, dtype=torch.bool)
            rest[place.candidates[apart]] = False
            whole = torch.cat([-constant - part * place.of_all[rest], -place.nats[apart]])
            return whole.logsumexp(0).exp().item()
    return None


def _estimated(place: Place, probabilities: Tensor) -> tuple[float, float]:
    """The sum over all candidates estimated from those tried, and its standard error."""
    drawn = probabilities[place.drawn]
    if len(drawn) < 2:
        return 1.0, math.inf
    others = len(place.of_all) - int((~place.drawn).sum())
    sum_ = probabilities[~place.drawn].sum() + others * drawn.mean()
    return sum_.item(), (others * drawn.std() / math.sqrt(len(drawn))).item()


def name_of(bench: Bench) -> str:
    return f"{bench.scorer.name} is not the cross-entropy of the logits"


def _in_words(place: Place, slack: float) -> str:
    """In words, which candidates do not cost their cross-entropy, where a pattern shows; else an empty string."""
    nats, expected = place.nats, place.expected
    wrong = ~((nats - expected).abs() <= slack * expected.clamp_min(1))
    right = ~wrong
    count = int(wrong.sum())
    if not right.any() or not wrong.any():
        return ""
    means = _counted_as(nats[wrong])
    if count > 1 and expected[wrong].amin() > expected[right].amax():
        if means.startswith("count as ") and expected[right].amax() <= nats[wrong][0] <= expected[wrong].amin():
            return f"no token costs more than {nats[wrong][0].item():.3g} nats"
        return f"tokens of more than {expected[right].amax().item():.3g} nats {means}"
    if count > 1 and expected[wrong].amax() < expected[right].amin():
        return f"tokens of less than {expected[right].amin().item():.3g} nats {means}"
    if count <= max(3, len(nats) // 8):
        ids = ", ".join(str(id_) for id_ in place.candidates[wrong].tolist()[:3])
        more = f" and {count - 3} more" if count > 3 else ""
        return f"{'id' if count == 1 else 'ids'} {ids}{more} {means if count > 1 else _one(means)}"
    return ""


def _counted_as(nats: Tensor) -> str:
    if nats.isnan().all():
        return "give NaN"
    if nats.abs().amax() < CLOSE:
        return "count nothing"
    same = math.isclose(nats.amin().item(), nats.amax().item(), rel_tol=CLOSE)
    return f"count as {nats[0].item():.3g}" if same else "count as something else"


def _one(words: str) -> str:
    """The words with their verb in the singular."""
    return words.replace("give", "gives").replace("count", "counts")
