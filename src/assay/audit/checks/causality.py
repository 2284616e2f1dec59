"""Causality: no logit depends on a later token. Here by replacing later tokens; gradients.py asks by gradient.

Shapes: T tokens, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from assay.audit.blame.where import placed, trace_over_time
from assay.audit.calling.lengths import spans
from assay.audit.checks.chunk_ends import suspects
from assay.audit.checks.gradients import by_gradient
from assay.audit.probing.ends import lengths_ended
from assay.audit.probing.evidence import Change, finding_of, largest_change
from assay.audit.probing.probes import Probe, content_probes, long_probes, single_probes
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick, measured_on
from assay.audit.report import worst
from assay.audit.subject.subject import Subject
from assay.records import Finding

LOGITS_KEPT = 1 << 25
"""The number of logits held at once, 256 MB in float64."""
CONFIRMED = 6
"""For how many of the largest changes rounding is measured again, on the very sequences that showed them."""
IN_TRAINING = 5
"""How many of the special ids are tried in training mode: those given or declared come first."""
MOST = 6
"""Into how many parts the lengths of chunks are put in words; of more it is said how many are left."""
CANDIDATES = 24
"""How many later tokens are changed one at a time to name the one that moves earlier logits most."""


def causality(subject: Subject, search: Search, yardstick: Yardstick, training: bool = False) -> Finding:
    """By replacement and, in eval mode, by gradient, as each finds what the other misses; the worse answer counts."""
    if search.longest < 2:
        return Finding(check="causality", status="skip", explanation="one token is all that the model takes")
    found = by_replacement(subject, search, yardstick, training)
    if training or found.status == "fail":
        return found
    gradient = by_gradient(subject, search, yardstick)
    if gradient.status == "fail":
        return worst([found, gradient])
    return found.model_copy(update={"explanation": f"{found.explanation}; {gradient.explanation}"})


def by_replacement(subject: Subject, search: Search, yardstick: Yardstick, training: bool = False) -> Finding:
    """Replace the tokens after many positions (cuts), one token or all of them: logits up to a cut must not move."""
    V, special = subject.vocab_size, subject.special_ids
    cuts = search.training_cuts if training else search.cuts
    suspicious = () if training else suspects(subject, search, yardstick)
    probes = long_probes(search, V, special, tuple(sorted({*cuts, *(suspicious or ())})), yardstick.ids[0])
    if not (training and search.brief and probes):
        probes += content_probes(search, V, special[:IN_TRAINING] if training else special)
    if not training:
        probes += single_probes(search, V)
    changes = [pair for group in _groups(subject, probes) for pair in _changes(subject, group, yardstick, training)]
    probe, found = _confirmed(subject, changes, yardstick, training)
    looked_at = search.replaced if suspicious is not None and not training else ()
    replaced = len(probes) + len(looked_at)
    far = f", in rows of up to {search.longest} tokens," if search.rows else ""
    finding = finding_of(
        "causality",
        found,
        yardstick,
        f"{replaced} replacements of later tokens{far} moved no earlier logit{_ended(search, cuts, looked_at)}",
        f"logits move when later tokens are replaced ({probe.content})",
    )
    return finding if finding.status == "pass" else _located(subject, finding, probe, yardstick, training)


def _ended(search: Search, cuts: Sequence[int], replaced: Sequence[int]) -> str:
    """In words, the lengths of chunks whose ends were looked at, the first few of them: a token after was replaced."""
    tokens = {*replaced, *(cut + 1 for cut in cuts), *range(1, search.short)}
    lengths = lengths_ended(tokens, search.longest)
    return f"; ends of chunks of {spans(lengths, most=MOST)} tokens were among the places" if lengths else ""


def _groups(subject: Subject, probes: Sequence[Probe]) -> Iterator[list[Probe]]:
    """Groups of probes of one length, small enough that their logits fit into memory."""
    by_length = defaultdict(list)
    for probe in probes:
        by_length[len(probe.base)].append(probe)
    for length, same in by_length.items():
        size = max(1, LOGITS_KEPT // (length * subject.outputs))
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _changes(
    subject: Subject, probes: list[Probe], yardstick: Yardstick, training: bool
) -> Iterator[tuple[Probe, Change]]:
    """For each probe, the largest change of a logit at or before its cut.

    Where the model draws dropout masks, both sequences of a probe are run in calls of the same shape, so that they get
    the same masks; otherwise a sequence that several probes share is run once.
    """
    sides = torch.stack([probe.base for probe in probes]), torch.stack([probe.changed for probe in probes])
    if subject.draws(training):
        first, second = (subject.logits(side, training) for side in sides)
        places = torch.arange(len(probes)).repeat(2)
    else:
        rows, places = torch.cat(sides).unique(dim=0, return_inverse=True)
        first = second = _logits(subject, rows, yardstick, training)
    for index, probe in enumerate(probes):
        before, after = (
            side[places[i], : probe.cut + 1] for side, i in ((first, index), (second, index + len(probes)))
        )
        yield probe, largest_change(before[None], after[None], yardstick)


def _logits(subject: Subject, rows: Tensor, yardstick: Yardstick, training: bool) -> Tensor:
    """The logits [B, T, V] of different `rows` [B, T]; those of the yardstick's row are known in eval mode."""
    if subject.restores or rows.shape[1] != yardstick.ids.shape[1]:
        return subject.logits(rows, training)
    known = (rows == yardstick.ids).all(1)
    if training:
        logits = subject.logits(rows, training)
        subject.trained |= {subject.weights: logits[known]} if bool(known.any()) else {}
        return logits
    if not bool(known.any()) or len(rows) == 1:
        return subject.logits(rows)
    others = subject.logits(rows[~known])
    logits = others.new_empty(len(rows), *others.shape[1:])
    logits[~known], logits[known] = others, yardstick.logits.to(others)
    return logits


def _confirmed(
    subject: Subject, changes: list[tuple[Probe, Change]], yardstick: Yardstick, training: bool
) -> tuple[Probe, Change]:
    """The largest change that exceeds rounding as measured on its own sequences; if none does, the largest of all."""
    changes = sorted(changes, key=lambda pair: -pair[1].excess)
    best = changes[0]
    for probe, _ in [pair for pair in changes if pair[1].excess > 1][:CONFIRMED]:
        stick = measured_on(subject, yardstick, torch.stack([probe.base, probe.changed]))
        best = next(_changes(subject, [probe], stick, training))
        if best[1].excess > 1:
            break
    return best


def _located(subject: Subject, finding: Finding, probe: Probe, yardstick: Yardstick, training: bool) -> Finding:
    """The finding with the modules to blame, traced for a single later token where one alone moves earlier logits."""
    alone = _alone(subject, probe, yardstick, training)
    event = f"when the tokens after {probe.cut} change" if alone is None else f"when token {alone.cut + 1} changes"
    probe = alone or probe
    for rows in (1, 2):
        base, changed = (side.expand(rows, -1) for side in (probe.base, probe.changed))
        run = partial(subject.logits, training=training)
        second = partial(run, changed)
        tracer, blames = trace_over_time(subject, probe.cut + 1, yardstick.unit, base, run, second)
        if blames:
            return placed(finding, tracer, blames, event)
    return finding


def _alone(subject: Subject, probe: Probe, yardstick: Yardstick, training: bool) -> Probe | None:
    """A probe that changes a single token, the one that moves an earlier logit most; None where none does alone."""
    places = torch.nonzero(probe.base != probe.changed)[:, 0]
    chosen = torch.cat([places[:8], places[8 :: max(1, len(places) // (CANDIDATES - 8))]]).unique().tolist()
    singles = []
    for place in chosen:
        changed = probe.base.clone()
        changed[place] = probe.changed[place]
        singles.append(Probe(probe.base, changed, place - 1, probe.content))
    changes = [pair for group in _groups(subject, singles) for pair in _changes(subject, group, yardstick, training)]
    best, change = max(changes, key=lambda pair: pair[1].excess)
    return best if change.excess > 1 else None
