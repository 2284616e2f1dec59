"""Parity: one forward pass gives what decoding with a state gives, however the sequence is split.

One side is a single call without a state; on the other, calls over pieces of the sequence pass the state on.
Shapes: B batch, T tokens, V vocabulary.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from assay.audit.blame.pairing import step_at
from assay.audit.blame.tracer import Tracer
from assay.audit.blame.where import notable, placed, tolerance
from assay.audit.probing.evidence import Change, finding_of, largest_change
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import SMALLEST_LEAK, TIMES_ROUNDING, Yardstick
from assay.audit.subject.decoding import Decoder, NoStateError, concatenated, decoders, long_splits, splits
from assay.audit.subject.differences import change
from assay.audit.subject.limits import padding_id
from assay.audit.subject.subject import RaisedError, Subject
from assay.errors import RequestError
from assay.records import Finding

STEPS = 3
SMALL = 1e-5
"""Relative changes up to this may come from constants that the model keeps in its own, narrower number type."""


@dataclass(frozen=True)
class _Run:
    """One way of decoding `ids` [B, T] in pieces; `whole` are their logits in one forward pass."""

    ids: Tensor
    whole: Tensor
    decoder: Decoder
    lengths: list[int]


def parity(subject: Subject, search: Search, yardstick: Yardstick) -> Finding:
    """Compare one forward pass with every way of decoding that the model has, in eval mode.

    Two rows of some tens of tokens are decoded in small pieces, and one row of the search's full length in large ones,
    so that windows, buffers and chunks of usual sizes are exceeded.
    """
    ways = decoders(subject.model)
    if not ways or search.content < 2:
        reason = "nothing to compare: no `step` with `prefill` or `initial_state`, and no argument that takes a state"
        return Finding(check="parity", status="skip", explanation=reason if not ways else "one token is all it takes")
    worst: tuple[Change, _Run] | None = None
    for run in _runs(subject, search, yardstick, ways):
        try:
            found = _compared(subject, run, yardstick)
            if found.excess > 1 and run.decoder.otherwise is not None:
                other = replace(run, decoder=run.decoder.otherwise)
                found, run = min((found, run), (_compared(subject, other, yardstick), other), key=lambda p: p[0].excess)
        except (RaisedError, RequestError) as error:  # logits of another shape are a RequestError
            return _raised(run, error)
        if worst is None or found.excess > worst[0].excess:
            worst = found, run
        if found.excess > 1:
            break
    assert worst is not None
    found, run = worst
    names = ", ".join(way.convention for way in ways)
    finding = finding_of(
        "parity",
        _beside_constants(subject, found, run, yardstick),
        yardstick,
        f"one forward is what {names} give, in every split tried",
        f"{run.decoder.convention} in pieces of {_pieces(run.lengths)} tokens give other logits than one forward",
    )
    return finding if finding.status == "pass" else _located(subject, finding, run, yardstick)


def _compared(subject: Subject, run: _Run, yardstick: Yardstick) -> Change:
    with subject.running() as model:
        decoded = concatenated(list(run.decoder.pieces(model, run.ids.to(subject.device), run.lengths)))
    return largest_change(run.whole[:, : decoded.shape[1]], decoded, yardstick)


def _runs(subject: Subject, search: Search, yardstick: Yardstick, ways: list[Decoder]) -> list[_Run]:
    """The runs to make, on short rows and a long one. Padding ids are left out, as a model may skip their positions."""
    generator, V, pad = torch.Generator().manual_seed(search.seed + 8), subject.vocab_size, padding_id(subject)
    short = torch.randint(V, (2, search.content), generator=generator)
    short = short if pad is None else torch.where(short == pad, (pad + 1) % V, short)
    few, whole = search.brief, subject.logits(short)
    runs = [_Run(short, whole, way, lengths) for way in ways for lengths in splits(way, search.content, STEPS, few)]
    if search.longest <= search.content:
        return runs
    long, whole = yardstick.ids, yardstick.logits
    if pad is not None:
        long = torch.where(long == pad, (pad + 1) % V, long)
        whole = subject.logits(long)
    return runs + [_Run(long, whole, way, n) for way in ways for n in long_splits(way, search.longest, STEPS, few)]


def _beside_constants(subject: Subject, found: Change, run: _Run, yardstick: Yardstick) -> Change:
    """A small change, judged again with a threshold that includes the rounding of the model's constants.

    A model may keep decays or rotary angles as tables in float32 and compute them anew when it decodes; both are right
    to the precision of float32 and differ in float64.
    """
    unit = torch.finfo(subject.own_type).eps
    small = found.moved <= SMALL * yardstick.scale
    buffers = [buffer for buffer in subject.model.buffers() if buffer.is_floating_point()]
    if found.excess <= 1 or not small or not subject.wide or unit <= yardstick.unit or not buffers:
        return found
    generator, kept = torch.Generator().manual_seed(0), [buffer.clone() for buffer in buffers]
    try:
        for buffer in buffers:
            u = 2 * torch.rand(buffer.shape, generator=generator, dtype=torch.float64).to(buffer.device) - 1
            buffer.mul_(1 + torch.finfo(torch.float32).eps * u)
        moved = change(run.whole, subject.logits(run.ids)).amax((0, 2)).cummax(0).values
    finally:
        for buffer, values in zip(buffers, kept, strict=True):
            buffer.copy_(values)
    allowed = max(TIMES_ROUNDING * moved[found.position].item(), SMALLEST_LEAK * yardstick.scale)
    return Change(found.comparison, found.position, found.moved, allowed, found.moved / allowed)


def _located(subject: Subject, finding: Finding, run: _Run, yardstick: Yardstick) -> Finding:
    T, lengths = run.ids.shape[1], run.lengths
    tracer = Tracer(subject.model, step_at(T, 0, lengths[0]), tolerance(yardstick.unit, same_shape=False))
    try:
        with tracer.recording():
            subject.logits(run.ids)
        with tracer.comparing(), subject.running() as model:
            for number, (start, _) in enumerate(run.decoder.pieces(model, run.ids.to(subject.device), lengths)):
                following = start + lengths[number]
                if number + 1 < len(lengths):
                    tracer.next_pass(step_at(T, following, lengths[number + 1]))
    except (RaisedError, RequestError):
        return finding
    blames = notable(list(tracer.blamed.values()))
    if not blames:
        return finding.model_copy(update={"where": f"{subject.name}: its own code for the state", "modules": ("",)})
    return placed(finding, tracer, blames, "between one forward and decoding")


def _raised(run: _Run, error: Exception) -> Finding:
    if isinstance(error.__cause__, NoStateError):
        return Finding(check="parity", status="skip", explanation=str(error.__cause__))
    words = f"{run.decoder.convention} in pieces of {_pieces(run.lengths)} tokens raised {error}"
    return Finding(check="parity", status="warn", explanation=words)


def _pieces(lengths: list[int]) -> str:
    return " + ".join(map(str, lengths[:4])) + (" + ..." if len(lengths) > 4 else "")
