"""Whether a score that is not the cross-entropy of the logits is still the negative log of a probability distribution.

If so, exp(-nats), summed over all ids that may stand at one place of a sequence (the candidates), is one. The nats of a
row's last token are those of the row minus those of the row without it.

Shapes: L tokens before the place, N candidates for it, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.audit.scoring.bench import CLOSE, Bench
from assay.audit.scoring.readings import close, cross_entropy

PLACES = (1, 3, 11)
"""The numbers of tokens before the tested places. A score that skips a tenth of the tokens shows only after ten."""
TOKENS, MODEL_CALLS = 1 << 12, 128
"""The most tokens scored to try all candidates of one place, and the most calls where each candidate needs its own."""
UNDERFLOW = 80.0
"""From this many nats on, a probability may be zero in float32."""
SAMPLED = 24
"""Where scoring all candidates costs too much: how many are tried of the likeliest, the unlikeliest, and the others."""


@dataclass(frozen=True)
class Verdict:
    """Whether a score is sound (None: it cannot be told), in words, and by how much it is off.

    `off` is how far the sum over candidates is from one, or how far two numbers that must agree are apart.
    """

    sound: bool | None
    words: str
    off: float | None = None


@dataclass(frozen=True)
class _Place:
    """Candidates [N] for the place after `before` tokens and what they cost.

    `nats` [N] are what the score gives them, `expected` [N] their cross-entropies, `of_all` [V] those of every id;
    `scale` is the absolute score of the tokens before.
    """

    before: int
    candidates: Tensor
    nats: Tensor
    expected: Tensor
    of_all: Tensor
    scale: float


def examined(bench: Bench, ids: Tensor, known: str | None) -> Verdict:
    """Judge the score on `ids` [B, T], on which it is not the cross-entropy.

    `known` is how it combines the nats of tokens (as "mean"), where it was the cross-entropy on other ids; if None, a
    mean and a sum are both tried.
    """
    if known is not None and bench.subject.takes.every:
        row, place = _where_it_parts(bench, ids, known)
        return _all_of([_judged(bench, row[:place], known, row[place]), _rows_apart(bench, ids, known)])
    if not bench.subject.takes.every:
        return _all_of([Verdict(None, _name(bench)), _rows_apart(bench, ids, known)])
    places = [place for place in PLACES if place < ids.shape[1]]
    found = []
    for way in ("each",) if bench.each else ("mean", "sum"):
        verdicts: list[Verdict] = []
        for place in places:
            verdicts.append(_judged(bench, ids[0, :place], way, ids[0, place]))
            if verdicts[-1].sound is False:
                break
        found.append(_all_of([verdict for verdict in verdicts if verdict.sound is not None] or verdicts))
        if found[-1].sound:
            break
    gravest = {True: 0, None: 1, False: 2}
    best = min(found, key=lambda verdict: (gravest[verdict.sound], verdict.off or 0.0))
    return _all_of([best, _rows_apart(bench, ids, known)])


def _all_of(verdicts: list[Verdict]) -> Verdict:
    """The first that fails, else the first that cannot tell, else the first."""
    for wanted in (False, None):
        for verdict in verdicts:
            if verdict.sound is wanted:
                return verdict
    return verdicts[0]


def totals(bench: Bench, ids: Tensor, reduction: str) -> Tensor:
    """The nats [B] of each row of `ids` [B, T], summed over tokens but the first; `reduction` is that of the score."""
    if ids.shape[1] < 2:
        return torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
    times = ids.shape[1] - 1 if reduction == "mean" else 1
    rows = bench.nats_of_rows(ids)
    return torch.stack([row.sum() * (times if row.numel() == 1 and not bench.each else 1) for row in rows])


def _where_it_parts(bench: Bench, ids: Tensor, reduction: str) -> tuple[Tensor, int]:
    """A row [T] and a place in it (the number of tokens before) from which on the score is not the cross-entropy.

    The place is found by bisection.
    """
    V = bench.subject.vocab_size
    expected = cross_entropy(bench.logits(ids)[..., :V], ids)
    apart = (totals(bench, ids, reduction) - expected.sum(1)).abs() / expected.sum(1).clamp_min(1)
    number = int(apart.argmax())
    row, sums = ids[number], expected[number].cumsum(0)
    low, high = 1, len(row)
    while high - low > 1:
        middle = (low + high) // 2
        agrees = close(totals(bench, row[None, :middle], reduction)[0], sums[middle - 2], bench.slack)
        low, high = (middle, high) if agrees else (low, middle)
    return row, low


def _rows_apart(bench: Bench, ids: Tensor, known: str | None) -> Verdict:
    """Whether the score of all rows together is the mean or sum of their scores one at a time."""
    whole, parts = bench.nats(ids), torch.stack([row.sum() for row in bench.nats_of_rows(ids)])
    ways = {"mean": parts.mean(), "sum": parts.sum()}
    if bench.each or known == "sum":
        del ways["mean"]
        whole = whole.sum()
    elif known is not None:
        del ways["sum"]
    if any(close(whole, value, bench.slack) for value in ways.values()):
        return Verdict(True, f"{_name(bench)}; its rows add up")
    off, value = min((abs(whole.item() - value.item()), value.item()) for value in ways.values())
    words = f"{_name(bench)}: {len(ids)} rows together cost {whole.item():.6g} nats, one at a time {value:.6g}"
    return Verdict(False, words, off)


def _judged(bench: Bench, prefix: Tensor, reduction: str, target: Tensor) -> Verdict:
    """Judge the candidates for the place of `target` after `prefix` [L].

    Where all of them after the whole prefix cost too much, all are tried after its last token alone, and then a sample
    after the whole prefix.
    """
    if not _all_fit(bench, len(prefix)) and len(prefix) > 1 and _all_fit(bench, 1):
        short = _verdict(bench, _scored(bench, prefix[-1:], reduction, target))
        if short.sound is False:
            return short
    return _verdict(bench, _scored(bench, prefix, reduction, target))


def _all_fit(bench: Bench, before: int) -> bool:
    V, rows_a_call = bench.subject.vocab_size, bench.each or bench.scorer.on_logits
    return V * (before + 1) <= TOKENS and (rows_a_call or V <= MODEL_CALLS)


def _scored(bench: Bench, prefix: Tensor, reduction: str, target: Tensor) -> _Place:
    V = bench.subject.vocab_size
    expected = -bench.logits(prefix[None])[0, -1, :V].log_softmax(-1)
    if _all_fit(bench, len(prefix)):
        candidates = torch.arange(V, device=prefix.device)
    else:
        ranked, others = expected.argsort(), torch.linspace(0, V - 1, SAMPLED, device=prefix.device).long()
        special = torch.tensor(bench.subject.special_ids, device=prefix.device)
        candidates = torch.cat([ranked[:SAMPLED], ranked[-SAMPLED:], others, special, target[None]]).unique()
    rows = torch.cat([prefix.expand(len(candidates), -1), candidates[:, None]], 1)
    before = totals(bench, prefix[None], reduction)
    nats = totals(bench, rows, reduction) - before
    return _Place(len(prefix), candidates, nats, expected[candidates], expected, abs(before.item()))


def _verdict(bench: Bench, place: _Place) -> Verdict:
    """Judge by the sum over all candidates, known or extrapolated from a sample, and by comparison with cross-entropy.

    A distribution that gives some candidates more probability than the softmax must give others less, and vice versa:
    where all differences have one sign, the score is no distribution.
    """
    N, V = len(place.nats), len(place.of_all)
    complete = N == V
    total = (-place.nats).exp().sum().item() if complete else _continued(place, bench.slack)
    after = f" after {place.before} tokens" if place.before > 1 else ""
    told = _in_words(place, bench.slack)
    name = f"{_name(bench)}{': ' + told if told else ''}"
    excess = (place.expected - place.nats) / place.expected.clamp_min(1)
    wrong = ~(excess.abs() <= bench.slack)
    cheaper, dearer = bool((excess > bench.slack).any()), bool((excess < -bench.slack).any())
    if total is not None and not abs(total - 1) <= bench.slack * (max(1.0, place.scale) if bench.slack > CLOSE else 1):
        return Verdict(False, f"{name}; its {V} candidates sum to {total:.9g}{after}", abs(total - 1))
    gain = ((-place.nats).exp() - (-place.expected).exp())[wrong].sum().item()
    equal = int((~wrong & (place.expected > 1)).sum()) > 1
    if bool(place.nats.isnan().any()) or (cheaper and not dearer and (gain > bench.slack or equal)):
        words = f"{name}; of {N} candidates tried{after} none costs more than its cross-entropy, and some less"
        return Verdict(False, words, excess.amax().item())
    underflow = place.nats.isinf() & (place.expected > UNDERFLOW)
    if bool((wrong & ~underflow).any()) and dearer and not cheaper and equal:
        words = f"{name}; of {N} candidates tried{after} none costs less than its cross-entropy, and some more"
        return Verdict(False, words, -excess[~underflow].amin().item())
    if total is None:
        return Verdict(None, f"{name}, and {V} candidates are too many to score")
    return Verdict(True, f"{name}; its {V} candidates sum to {total:.9g}{after}", abs(total - 1))


def _continued(place: _Place, slack: float) -> float | None:
    """The sum over all candidates, extrapolated where nats = a * cross-entropy + b for those tried; else None."""
    low, high = int(place.expected.argmin()), int(place.expected.argmax())
    width = place.expected[high] - place.expected[low]
    part = (place.nats[high] - place.nats[low]) / width if width > slack else torch.ones_like(width)
    constant = place.nats[low] - part * place.expected[low]
    if close(place.nats, part * place.expected + constant, slack):
        return (-constant - part * place.of_all).logsumexp(0).exp().item()
    return None


def _name(bench: Bench) -> str:
    return f"{bench.scorer.name} is not the cross-entropy of the logits"


def _in_words(place: _Place, slack: float) -> str:
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
