"""Parity: one forward pass gives what decoding with a state gives, however the sequence is split.

One side is a single call without a state; on the other, calls over pieces of the sequence pass the state on.
Shapes: B batch, T tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.audit.blame.attributes import named_tensors
from assay.audit.blame.pairing import step_at
from assay.audit.blame.shared import shared_state
from assay.audit.blame.tracer import Tracer, leaves_of
from assay.audit.blame.where import notable, placed, tolerance
from assay.audit.checks.generation import UngreedyError, generation
from assay.audit.checks.reading import StatelessError, UnreadError, chosen, decoded, largest_of
from assay.audit.decoding.decoders import ROOM, SINGLES, Decoder, long_splits, splits
from assay.audit.decoding.habits import habits
from assay.audit.probing.evidence import Change, finding_of, largest_change
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import SMALLEST_LEAK, TIMES_ROUNDING, Yardstick
from assay.audit.subject.differences import change
from assay.audit.subject.limits import padding_id
from assay.audit.subject.subject import RaisedError, Subject
from assay.errors import RequestError
from assay.records import Finding

STEPS = 3
SMALL = 1e-5
"""Relative changes up to this may come from constants that the model keeps in its own, narrower number type."""
FIRST, SECOND, IN_TURNS = 5, 8, 6
"""Tokens in the first pieces of two sequences that are decoded in turns, and single ones after these."""
MOST_RINGS = 2
"""Of how many sizes of a state's tensors it is tried whether they are rings."""
NOT_LOOKED_AT = "not looked at: pass decode="


@dataclass(frozen=True)
class _Run:
    """One way of decoding `ids` [B, T] in pieces; `whole` are their logits in one forward pass."""

    ids: Tensor
    whole: Tensor
    decoder: Decoder
    lengths: list[int]
    words: str = ""
    """How it failed, where not by other logits in these pieces."""
    where: str | None = None


def parity(subject: Subject, search: Search, yardstick: Yardstick) -> Finding:
    """Compare one forward pass with every way of decoding that the model has, in eval mode.

    Two rows of some tens of tokens are decoded in small pieces, and one row of the search's full length in large ones,
    so that windows, buffers and chunks of usual sizes are exceeded. Two sequences are decoded in turns, or, where the
    state is kept on the model, one after the other. Of a model that only generates, the greedy choices are compared.
    """
    if search.content < 2:
        return Finding(check="parity", status="skip", explanation="one token is all it takes")
    watched = subject.asks_for_no_type
    try:
        subject.memory.restore()
        return _checked(subject, search, yardstick)
    finally:
        subject.asks_for_no_type = watched
        subject.memory.restore()


def _checked(subject: Subject, search: Search, yardstick: Yardstick) -> Finding:
    known = habits(subject.model, subject.outputs, subject.decode)
    rows = _short(subject, search)
    whole, unread, ways = subject.logits(rows), list(known.unread), []
    stateless: list[str] = []
    for readings in known.ways:
        try:
            ways.append(chosen(subject, readings, rows, whole, yardstick))
        except StatelessError as error:
            stateless.append(str(error))
        except UnreadError as error:
            unread.append(str(error))
    worst: tuple[Change, _Run] | None = None
    for found, run in _compared(subject, search, yardstick, ways, rows, whole):
        if worst is None or found.excess > worst[0].excess:
            worst = found, run
        if found.excess > 1:
            break
    if worst is None:
        try:
            found_greedy = generation(subject, search, yardstick, rows)
        except UngreedyError as error:
            found_greedy, unread = None, [*unread, str(error)]
        return found_greedy or _nothing(unread, stateless)
    found, run = worst
    names = ", ".join(dict.fromkeys(way.convention for way in ways))
    alone = " (one row at a time)" if any(way.rows == 1 for way in ways) else ""
    failed = run.words or f"in pieces of {_pieces(run.lengths)} tokens give other logits than one forward"
    finding = finding_of(
        "parity",
        found if run.words else _beside_constants(subject, found, run, yardstick),
        yardstick,
        f"one forward is what {names} give{alone}, in every split tried",
        f"{run.decoder.convention} {failed}",
    )
    if finding.status == "fail":
        return _located(subject, finding, run, yardstick)
    if unread:
        left = f"pass decode=, {'; '.join(unread)}"
        subject.unsearched["some decoding"] = left
        return finding.model_copy(update={"explanation": f"{finding.explanation}; not looked at: {left}"})
    return finding


def _short(subject: Subject, search: Search, seed: int = 8) -> Tensor:
    """Two random rows [2, T], without padding ids, as a model may skip their positions."""
    generator, V, pad = torch.Generator().manual_seed(search.seed + seed), subject.vocab_size, padding_id(subject)
    short = torch.randint(V, (2, search.content), generator=generator)
    return short if pad is None else torch.where(short == pad, (pad + 1) % V, short)


def _compared(
    subject: Subject, search: Search, yardstick: Yardstick, ways: Sequence[Decoder], rows: Tensor, whole: Tensor
) -> Iterator[tuple[Change, _Run]]:
    """The largest change of each run: on short rows, on two sequences, on a long row, and of a forward afterwards."""
    few = search.brief
    others = rows.flip(0) if few else _short(subject, search, 14)
    of_others = whole.flip(0) if few else subject.logits(others) if ways else whole
    runs = [
        _Run(rows[: way.rows], whole[: way.rows], way, lengths)
        for way in ways
        for lengths in splits(way, search.content, STEPS, few)
    ]
    yield from ((decoded(subject, run.decoder, run.ids, run.whole, run.lengths, yardstick), run) for run in runs)
    if few:  # of ways that differ in how they begin, which has been tried, one is enough
        ways = list({way.method: way for way in reversed(ways)}.values())
    for way in ways:
        if search.content > SECOND:
            both = (rows[: way.rows], others[: way.rows]), (whole[: way.rows], of_others[: way.rows])
            yield _of_two(subject, way, *both, yardstick, 1 if few else IN_TURNS)
    if search.longest > search.content:
        long, logits, pad = yardstick.ids, yardstick.logits, padding_id(subject)
        if pad is not None:
            long = torch.where(long == pad, (pad + 1) % subject.vocab_size, long)
            logits = subject.logits(long)
        runs = [
            _Run(long, logits, way, lengths)
            for way in ways
            for lengths in long_splits(way, search.longest, STEPS, few, _rings(subject, way, rows))
        ]
        yield from ((decoded(subject, run.decoder, run.ids, run.whole, run.lengths, yardstick), run) for run in runs)
    if ways:
        run = _Run(rows, whole, ways[-1], [1], "and then one forward give other logits than one forward before")
        yield largest_change(whole, subject.logits(rows), yardstick), run


def _rings(subject: Subject, way: Decoder, rows: Tensor) -> list[int]:
    """Numbers of tokens after which a state may begin anew: sizes of axes of its tensors, that are not the model's own.

    Only those are given that rolling through SINGLES tokens does not reach.
    """
    own = {size for parameter in subject.model.parameters() for size in parameter.shape}
    if not way.explicit:
        subject.memory.restore()
    try:
        with subject.running() as model:
            state = next(way.states(model, rows[: way.rows, :1].to(subject.device), [1]))[2]
            held = leaves_of(state) if way.explicit else dict(named_tensors(model))
    except (RaisedError, RequestError):
        return []
    sizes = {size for tensor in held.values() if tensor.ndim > 1 for size in tensor.shape[1:]}
    return sorted(size for size in sizes - own - {ROOM} if SINGLES // 2 < size < subject.longest)[:MOST_RINGS]


def _of_two(
    subject: Subject,
    way: Decoder,
    ids: tuple[Tensor, Tensor],
    wholes: tuple[Tensor, Tensor],
    yardstick: Yardstick,
    rest: int,
) -> tuple[Change, _Run]:
    """Two sequences in turns; where the state is kept on the model, one after the other. `wholes` are their logits.

    After the first pieces `rest` single tokens of each are decoded.
    """
    one, other = (rows.to(subject.device) for rows in ids)
    rest = min(one.shape[1] - SECOND, rest)
    lengths = [[first] + [1] * rest for first in (FIRST, SECOND)]
    if way.longer == "none":
        lengths = [[1] * (1 + rest)] * 2
    changes = []
    with subject.running() as model:
        if way.explicit:
            decoding = [way.pieces(model, rows, pieces) for rows, pieces in zip((one, other), lengths, strict=True)]
            turns = ((0, 1) * (1 + rest))[: 3 if rest == 1 else None]
            changes += [largest_of(iter([next(decoding[turn])]), wholes[turn], yardstick) for turn in turns]
        elif not way.fresh:
            largest_of(way.pieces(model, other, lengths[1]), wholes[1], yardstick)
            changes.append(largest_of(way.pieces(model, one, lengths[0]), wholes[0], yardstick))
    words = "of two sequences in turns give other logits than one forward: they share a state"
    if not way.explicit:
        words = "of a sequence after another give other logits than one forward: the model keeps something of the other"
    found = max(changes, key=lambda change: change.excess, default=Change(0, 0, 0.0, 1.0, 0.0))
    where = None
    if found.excess > 1:
        subject.memory.restore()
        with subject.running() as model:
            kept = shared_state(model, way, one, other, lengths[0][:2])
        where = f"{subject.name}: {kept or 'its state'} is the same for two sequences"
    return found, _Run(one, wholes[0], way, lengths[0], words, where)


def _nothing(unread: list[str], stateless: list[str]) -> Finding:
    if unread:
        return Finding(check="parity", status="skip", explanation=f"{NOT_LOOKED_AT}; {'; '.join(unread)}")
    none = "the model takes no state: no method of it decodes, and its `forward` takes no cache"
    return Finding(check="parity", status="skip", explanation=f"nothing to compare: {'; '.join(stateless) or none}")


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
    if run.words:
        where = run.where or f"{subject.name}: its own code for the state"
        return finding.model_copy(update={"where": where, "modules": ("",)})
    tracer = Tracer(subject.model, step_at(T, 0, lengths[0]), tolerance(yardstick.unit, same_shape=False))
    if not run.decoder.explicit:
        subject.memory.restore()
    try:
        with tracer.recording():
            subject.logits(run.ids)
        with tracer.comparing(), subject.running() as model:
            for number, _ in enumerate(run.decoder.pieces(model, run.ids.to(subject.device), lengths)):
                following = sum(lengths[: number + 1])
                if number + 1 < len(lengths):
                    tracer.next_pass(step_at(T, following, lengths[number + 1]))
    except (RaisedError, RequestError):
        return finding
    blames = notable(list(tracer.blamed.values()))
    if not blames:
        return finding.model_copy(update={"where": f"{subject.name}: its own code for the state", "modules": ("",)})
    return placed(finding, tracer, blames, "between one forward and decoding")


def _pieces(lengths: list[int]) -> str:
    return " + ".join(map(str, lengths[:4])) + (" + ..." if len(lengths) > 4 else "")
