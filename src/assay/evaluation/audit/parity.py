"""Parity: one forward gives what decoding with a state gives, however the sequence is split.

The two sides never take the same path: one is a single call without a state, the other hands its state on.
Shapes: B batch, T tokens, V vocabulary.
"""

import torch

from assay.evaluation.audit.decoding import Decoder, NoStateError, concatenated, decoders, splits
from assay.evaluation.audit.evidence import finding_of, largest_change
from assay.evaluation.audit.findings import Finding
from assay.evaluation.audit.pairing import step_at
from assay.evaluation.audit.rounding import Yardstick
from assay.evaluation.audit.search import Search
from assay.evaluation.audit.subject import RaisedError, Subject
from assay.evaluation.audit.tracer import Tracer
from assay.evaluation.audit.where import notable, placed, tolerance

STEPS = 3


def parity(subject: Subject, search: Search, yardstick: Yardstick) -> Finding:
    """Compare one forward with every way of decoding that the model has, in eval mode."""
    ways = decoders(subject.model)
    T = search.content
    if not ways or T < 2:
        reason = "the model has neither `step` with `prefill` or `initial_state`, nor `use_cache` with a cache"
        return Finding(check="parity", status="skip", explanation=reason if not ways else "one token is all it takes")
    generator = torch.Generator().manual_seed(search.seed + 8)
    ids = torch.randint(subject.vocab_size, (2, T), generator=generator)
    whole = subject.logits(ids)
    best = None
    for decoder in ways:
        for lengths in splits(decoder, T, STEPS):
            try:
                with subject.running() as model:
                    decoded = concatenated(list(decoder.pieces(model, ids.to(subject.device), lengths)))
            except RaisedError as error:
                return _raised(decoder, lengths, error)
            found = largest_change(whole[:, : decoded.shape[1]], decoded, yardstick)
            if best is None or found.excess > best[0].excess:
                best = found, decoder, lengths
    assert best is not None
    found, decoder, lengths = best
    names = ", ".join(way.convention for way in ways)
    finding = finding_of(
        "parity",
        found,
        yardstick,
        f"one forward is what {names} give, in every split tried",
        f"{decoder.convention} in pieces of {_pieces(lengths)} tokens give other logits than one forward",
    )
    return finding if finding.status == "pass" else _located(subject, finding, decoder, lengths, ids, yardstick)


def _located(
    subject: Subject, finding: Finding, decoder: Decoder, lengths: list[int], ids: torch.Tensor, yardstick: Yardstick
) -> Finding:
    T = ids.shape[1]
    tracer = Tracer(subject.model, step_at(T, 0, lengths[0]), tolerance(yardstick.unit, same_shape=False))
    try:
        with tracer.recording():
            subject.logits(ids)
        with tracer.comparing(), subject.running() as model:
            for number, (start, _) in enumerate(decoder.pieces(model, ids.to(subject.device), lengths)):
                following = start + lengths[number]
                if number + 1 < len(lengths):
                    tracer.next_pass(step_at(T, following, lengths[number + 1]))
    except RaisedError:
        return finding
    blames = notable(list(tracer.blamed.values()))
    if not blames:
        return finding.model_copy(update={"where": f"{subject.name}: its own code for the state", "modules": ("",)})
    return placed(finding, tracer, blames, "between one forward and decoding")


def _raised(decoder: Decoder, lengths: list[int], error: RaisedError) -> Finding:
    if isinstance(error.__cause__, NoStateError):
        return Finding(check="parity", status="skip", explanation=str(error.__cause__))
    words = f"{decoder.convention} in pieces of {_pieces(lengths)} tokens raised {error}"
    return Finding(check="parity", status="warn", explanation=words)


def _pieces(lengths: list[int]) -> str:
    return " + ".join(map(str, lengths[:4])) + (" + ..." if len(lengths) > 4 else "")
