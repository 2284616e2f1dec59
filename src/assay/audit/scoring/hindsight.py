"""Scores that know the end of a row when they score its beginning: chosen, fitted or normalised in hindsight.

Shapes: T tokens, V vocabulary.
"""

import torch
from torch import Tensor

from assay.audit.scoring.bench import TOKENS, Bench
from assay.audit.scoring.readings import close, cross_entropy

COARSE = 2e-6
"""Relative to the nats of a row, what rounding to float32 may add to those of its last token."""
LENGTHS, FEW_LENGTHS = 320, 24
"""How many prefixes of a row are scored at most; few of many ids, or where the model must be run for each."""


def in_hindsight(bench: Bench, row: Tensor) -> tuple[str, float] | None:
    """In words, and by how much, if the nats of a token change with the tokens after it in `row` [T]; else None.

    Only for scores of one number a token: of others nobody can say what a single token costs.
    """
    T = len(row)
    if not bench.each or T < 4:
        return None
    V, half = bench.subject.vocab_size, T // 2
    changed = torch.cat([row[:half], (row[half:] + 1 + torch.arange(T - half, device=row.device) % (V - 1)) % V])
    constant = torch.cat([row[:half], row[half - 1].expand(T - half)])
    whole = bench.nats_of_rows(row[None])[0]
    others = [(other, half, "change") for other in (changed, constant)]
    others += [(row[:length], length, "are left out") for length in sorted({3, 8, half}) if length < T]
    for other, length, words in others:
        own, before = bench.nats_of_rows(other[None])[0][: length - 1], whole[: length - 1]
        if not close(before, own, bench.slack):
            off = (before - own).abs()
            place = int(off.argmax())
            costs = f"token {place + 1} costs {before[place].item():.4g} nats, and {own[place].item():.4g}"
            return f"{costs} when tokens from {length} on {words}: it is scored in hindsight", off[place].item()
    return None


def surprising_places(bench: Bench, row: Tensor, reduction: str) -> dict[int, float]:
    """The nats of a token of `row` [T], by the number of tokens before it, for up to two places.

    The first at which it does not cost its cross-entropy, and the one at which it costs least compared with that: there
    a score that is chosen or fitted in hindsight may change its choice. A cost below zero is that of no probability.
    """
    most = LENGTHS if bench.scorer.on_logits and bench.tokens > TOKENS else FEW_LENGTHS
    lengths = list(range(2, min(len(row), most) + 1))
    if len(lengths) < 2:
        return {}
    sums = bench.totals_of_prefixes(row, lengths, reduction)
    nats = sums.diff()
    nats = nats.where(nats < -COARSE * sums[1:].abs().clamp_min(1), nats.clamp_min(0))
    expected = cross_entropy(bench.logits(row[None])[..., : bench.subject.vocab_size], row[None])[0, 1 : len(nats) + 1]
    gain = (expected - nats).nan_to_num(0.0)
    apart = (gain.abs() > bench.slack * expected.clamp_min(1)).nonzero()[:1, 0].tolist()
    return {place + 2: nats[place].item() for place in (*apart, int(gain.argmax()))}
