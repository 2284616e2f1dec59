"""Whether a score that is not the cross-entropy of the logits is still the negative log of a probability distribution.

If so, exp(-nats), summed over all ids that may stand at one place of a sequence (the candidates), is one. The nats of a
row's last token are those of the row minus those of the row without it.

Shapes: L tokens before the place, N candidates for it, V vocabulary.
"""

from dataclasses import replace

import torch
from torch import Tensor

from assay.audit.scoring.bench import Bench
from assay.audit.scoring.hindsight import in_hindsight, surprising_places
from assay.audit.scoring.judging import Place, Verdict, judged, name_of
from assay.audit.scoring.readings import close, cross_entropy

PLACES = (1, 3, 11)
"""The numbers of tokens before the tested places. A score that skips a tenth of the tokens shows only after ten."""
MODEL_CALLS = 128
"""The most calls of a model to try all candidates of one place, where each candidate needs its own."""
SHARED = 16
"""From this many tokens before a place on, a score of logits is given those of one run for all its candidates."""
SAMPLED, RECENT = 24, 48
"""Where scoring all candidates costs too much: how many are tried of the likeliest, the unlikeliest and others; and how
many of the last tokens before the place.
"""


def examined(bench: Bench, ids: Tensor, known: str | None, long: Tensor) -> Verdict:
    """Judge the score on `ids` [B, T], on which it is not the cross-entropy, and on a `long` row [T].

    `known` is how it combines the nats of tokens (as "mean"), where it was the cross-entropy on other ids; if None, a
    mean and a sum are both tried.
    """
    if not bench.subject.takes.every:
        return _all_of([Verdict(None, name_of(bench)), _rows_apart(bench, ids, known)])
    if known is not None:
        row, place = _where_it_parts(bench, ids, known)
        first = _judged(bench, row[:place], known, row[place])
        return _all_of([first, *_later(bench, long, known), _rows_apart(bench, ids, known)])
    places = [place for place in PLACES if place < ids.shape[1]]
    found = []
    for way in ("each",) if bench.each else ("mean", "sum"):
        verdicts: list[Verdict] = []
        for place in places:
            verdicts.append(_judged(bench, ids[0, :place], way, ids[0, place]))
            if verdicts[-1].sound is False:
                break
        else:
            verdicts += _later(bench, long, way)
        found.append(_all_of([verdict for verdict in verdicts if verdict.sound is not None] or verdicts))
        if found[-1].sound:
            break
    gravest = {True: 0, None: 1, False: 2}
    best = min(found, key=lambda verdict: (gravest[verdict.sound], verdict.off or 0.0))
    if best.sound and not bench.each:
        best = replace(
            best, words=f"{best.words}; as one number a row, it tells of single tokens at the places tried alone"
        )
    return _all_of([best, _rows_apart(bench, ids, known)])


def _later(bench: Bench, row: Tensor, reduction: str) -> list[Verdict]:
    """Judge the score on a long `row` [T]: at its end, where its nats grow least, and by what later tokens move."""
    hindsight = in_hindsight(bench, row)
    if hindsight is not None:
        return [Verdict(False, f"{name_of(bench)}: {hindsight[0]}", hindsight[1])]
    surprises = surprising_places(bench, row, reduction)
    for place, nats in surprises.items():
        if nats < 0:
            words = f"{name_of(bench)}: a row of {place + 1} tokens costs {-nats:.3g} nats less than its first {place}"
            return [Verdict(False, words, -nats)]
    places = sorted({*surprises, len(row) - 1} - {0})
    verdicts = [_judged(bench, row[:place], reduction, row[place]) for place in places]
    # A place where all cannot be scored says nothing against a score that was right where all could.
    return [verdict for verdict in verdicts if verdict.sound is not None]


def _all_of(verdicts: list[Verdict]) -> Verdict:
    """The first that fails, else the first that cannot tell, else the first."""
    for wanted in (False, None):
        for verdict in verdicts:
            if verdict.sound is wanted:
                return verdict
    return verdicts[0]


def totals(bench: Bench, ids: Tensor, reduction: str, logits: Tensor | None = None) -> Tensor:
    """The nats [B] of each row of `ids` [B, T], summed over tokens but the first; `reduction` is that of the score.

    `logits` [1, T, W], if given, are those of every row, which may differ in the last token alone.
    """
    if ids.shape[1] < 2:
        return torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
    times = ids.shape[1] - 1 if reduction == "mean" else 1
    rows = bench.nats_of_rows(ids, logits)
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
        return Verdict(True, f"{name_of(bench)}; its rows add up")
    off, value = min((abs(whole.item() - value.item()), value.item()) for value in ways.values())
    words = f"{name_of(bench)}: {len(ids)} rows together cost {whole.item():.6g} nats, one at a time {value:.6g}"
    return Verdict(False, words, off)


def _judged(bench: Bench, prefix: Tensor, reduction: str, target: Tensor) -> Verdict:
    """Judge the candidates for the place of `target` after `prefix` [L].

    Where all of them after the whole prefix cost too much, all are tried after its last token alone, and then a sample
    after the whole prefix.
    """
    if not _all_fit(bench, len(prefix)) and len(prefix) > 1 and _all_fit(bench, 1):
        short = judged(bench, _scored(bench, prefix[-1:], reduction, target))
        if short.sound is False:
            return short
    return judged(bench, _scored(bench, prefix, reduction, target))


def _all_fit(bench: Bench, before: int) -> bool:
    V, rows_a_call = bench.subject.vocab_size, bench.each or bench.scorer.on_logits
    return V * (before + 1) <= bench.tokens and (rows_a_call or V <= MODEL_CALLS)


def _scored(bench: Bench, prefix: Tensor, reduction: str, target: Tensor) -> Place:
    V, device = bench.subject.vocab_size, prefix.device
    logits = bench.logits(prefix[None])
    expected = -logits[0, -1, :V].log_softmax(-1)
    seen = prefix.unique()
    drawn = torch.zeros(0, dtype=torch.long, device=device)
    if _all_fit(bench, len(prefix)):
        candidates = torch.arange(V, device=device)
    else:
        ranked, drawn = expected.argsort(), torch.linspace(0, V - 1, SAMPLED, device=device).long()
        special = torch.tensor(bench.subject.special_ids, device=device)
        chosen = torch.cat([ranked[:SAMPLED], ranked[-SAMPLED:], prefix[-RECENT:], special, target[None]])
        candidates, drawn = torch.cat([chosen, drawn]).unique(), drawn[~torch.isin(drawn, chosen)]
    rows = torch.cat([prefix.expand(len(candidates), -1), candidates[:, None]], 1)
    before = totals(bench, prefix[None], reduction)
    shared = torch.cat([logits, logits[:, -1:]], 1) if bench.scorer.on_logits and len(prefix) >= SHARED else None
    return Place(
        before=len(prefix),
        candidates=candidates,
        nats=totals(bench, rows, reduction, shared) - before,
        expected=expected[candidates],
        of_all=expected,
        scale=abs(before.item()),
        seen=torch.isin(candidates, seen),
        every=bool(torch.isin(seen, candidates).all()),
        drawn=torch.isin(candidates, drawn),
        coarse=all(bool((nats == nats.float()).all()) for nats in bench.nats_of_rows(rows[:1])),
    )
