"""The checks S0 to S4 and G1 to G4 of documents 000 to 004, under their names, with their limits and our numbers."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch

from assay.evaluation.inside.gradient import TokenBatch
from assay.evaluation.inside.gradient_profile import BALANCED, TOLERATED, GradientProfile
from assay.evaluation.inside.sequences import Sequences, evaluating, fullest_rows
from assay.evaluation.inside.shared import gradients_of, states_of
from assay.evaluation.inside.state_profile import StateProfile
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.layers.mixer import state_tensors
from assay.model.lm import LanguageModel, ModelState
from assay.model.plan import ExecutionPlan
from assay.ops.cross_entropy import token_nats
from assay.records import Column, Record
from assay.targets import IGNORED

WINDOWS = 4
FLOAT32_BYTES = 4
"""Every part of a state is of this type, where activations are."""
NORMS = (0.01, 100.0)
"""S1, of a recurrent tensor."""
SAME = 1e-5
"""S2 and S3: states closer than this, over their size, are the same."""
VARIANCES, VARIANCES_WARNED = (0.1, 10.0), (0.01, 100.0)
"""S4: within the first it passes, within the second it warns."""
NEAR_UNIFORM = 0.95
"""G2, of ln V. The documents say "near" and name no number; this limit is ours."""
GRADIENT_NORMS = (1e-3, 100.0)
"""G3. The documents say "in range" and name none; this one is ours."""
STATIC, FROZEN = 0.99, 0.999
"""G3.5: the cosine of successive states; above the first it warns, above the second it fails."""
SATURATED, SATURATED_WARNED = 0.1, 0.3

Verdict = Literal["PASS", "WARN", "FAIL", "NOT APPLICABLE"]


class Check(Record):
    """One check of the documents."""

    name: str
    asks: str
    value: float | None
    """None where it does not apply."""
    limits: str
    verdict: Verdict
    why: str = ""
    """Why it does not apply."""


class DocumentChecks(Record):
    """All of them, in the documents' order."""

    checks: list[Check]


class MeasureDocumentChecks(Measurement[DocumentChecks]):
    """Of the trained weights, where there are any; states and gradients are those of `state` and `gradients`."""

    name = "document_checks"
    question = "What do the checks S0 to S4 and G1 to G4 of the research documents say?"
    unit = "verdict"
    group = "character"
    needs = frozenset({"initial", "trained"})
    needs_all = False
    record = DocumentChecks
    version = 2  # over the states and gradients that `state` and `gradients` read
    quick = "the states and gradients of the smaller protocols of state and gradients"

    def measure(self, given: Given, readers: Sequence[Reader]) -> DocumentChecks:
        return DocumentChecks(checks=list(_checks(given)))

    def columns(self, values: DocumentChecks) -> list[Column]:
        return [Column(key="checks", head="S0-G4", format="text", text=in_words(values))]

    def sentences(self, values: DocumentChecks) -> list[str]:
        return [
            f"{check.name} ({check.asks}): {check.verdict}, {check.value:.4g}, where {check.limits} is asked for."
            for check in values.checks
            if check.verdict in ("WARN", "FAIL") and check.value is not None
        ]


def in_words(values: DocumentChecks) -> str:
    """How many pass, and which do not."""
    applied = [check for check in values.checks if check.verdict != "NOT APPLICABLE"]
    passed = sum(check.verdict == "PASS" for check in applied)
    others = [f"{check.name} {check.verdict.lower()}" for check in applied if check.verdict != "PASS"]
    return f"{passed} of {len(applied)} pass" + (f": {', '.join(others)}" if others else "")


def _checks(given: Given) -> Iterator[Check]:
    moment = given.moments[-1]
    model = given.model(moment)
    rows, length = fullest_rows(given.validation, WINDOWS)
    inputs, targets = (part[rows][:, :length] for part in (given.validation.inputs, given.validation.targets))
    sequences = Sequences(inputs, given.validation.document[rows])
    states, gradients = states_of(given, moment), gradients_of(given, moment)
    yield from _state_checks(model, sequences, states, given.plan)
    whole = TokenBatch(inputs, targets)
    finite, entropy, nats = _outputs(model, whole, given.plan)
    yield Check(
        name="G1", asks="logits are finite", value=finite, limits="a share of 1", verdict=_judged(finite == 1.0)
    )
    if "initial" not in given.models:
        yield _missing("G2", "entropy before training over ln V", f"{NEAR_UNIFORM:g} or more", "no untrained weights")
    else:
        _, entropy, before = _outputs(given.initial, whole, given.plan)
        yield _at_least("G2", "entropy before training over ln V", entropy, NEAR_UNIFORM)
    norm, low_high = gradients.total.mean, "{:g} to {:g}".format(*GRADIENT_NORMS)
    asks = "the loss falls, with a gradient norm in range"
    if "initial" in given.models and "trained" in given.models:
        fine = nats < before and GRADIENT_NORMS[0] <= norm <= GRADIENT_NORMS[1]
        yield Check(name="G3", asks=asks, value=norm, limits=f"a lower loss and {low_high}", verdict=_judged(fine))
    else:
        yield _missing("G3", asks, f"a lower loss and {low_high}", "the weights before and after training are needed")
    yield from _evolution(states)
    yield _balance(gradients)


def _state_checks(
    model: LanguageModel, sequences: Sequences, states: StateProfile, plan: ExecutionPlan
) -> Iterator[Check]:
    ids = torch.from_numpy(sequences.inputs).to(plan.device)
    state, again = _state(model, ids, plan), _state(model, ids, plan)
    held = sum(x.numel() for x in state_tensors(state.blocks) if x.is_floating_point()) / len(ids)
    layers = [layer for block in model.sequence_blocks() for layer in block.layers()]
    declared = sum(layer.state_bytes(ids.shape[1], FLOAT32_BYTES) for layer in layers) / FLOAT32_BYTES
    yield Check(
        name="S0",
        asks="the state exists, of the documented size: its numbers over those declared",
        value=held / declared if declared else 0.0,
        limits="1",
        verdict=_judged(declared > 0 and math.isclose(held, declared)),
    )
    recurrent = "there is no recurrent state"
    if not states.parts:
        yield _missing("S1", "norm of the state, finite", "{:g} to {:g}".format(*NORMS), recurrent)
    else:
        norms = [part.norm[-1] for part in states.parts]
        worst = max(norms, key=lambda norm: abs(math.log(norm)) if 0 < norm < math.inf else math.inf)
        fine = all(part.finite for part in states.parts) and NORMS[0] <= worst <= NORMS[1]
        limits = "{:g} to {:g}".format(*NORMS)
        yield Check(name="S1", asks="norm of the state, finite", value=worst, limits=limits, verdict=_judged(fine))
    yield _difference(state, sequences)
    same = max((_apart(a, b) for a, b in _pairs(state, again)), default=0.0)
    asks = "the same input gives the same state: largest difference over its size"
    yield Check(name="S3", asks=asks, value=same, limits=f"under {SAME:g}", verdict=_judged(same < SAME))
    yield _variances(states)


def _difference(state: ModelState, sequences: Sequences) -> Check:
    asks, limits = "different inputs give different states: least difference over its size", f"over {SAME:g}"
    pairs = [(a, b) for a in range(len(sequences.inputs)) for b in range(a)]
    other = [(a, b) for a, b in pairs if (sequences.inputs[a] != sequences.inputs[b]).any()]
    tensors = [x for x in state_tensors(state.blocks) if x.ndim > 0 and x.numel()]
    if not other or not tensors:
        return _missing("S2", asks, limits, "there are no two different sequences")
    # Of each pair the part that differs most: a shift of a last token that is the same may agree.
    least = min(max(_apart(x[a], x[b]) for x in tensors) for a, b in other)
    return Check(name="S2", asks=asks, value=least, limits=limits, verdict=_judged(least > SAME))


def _variances(states: StateProfile) -> Check:
    asks = "variance of one component's state over the other's, farthest from 1"
    limits = "{:g} to {:g}, warned of to {:g} to {:g}".format(*VARIANCES, *VARIANCES_WARNED)
    by_block: dict[int, dict[str, float]] = {}
    for part in states.parts:
        component, dot, _ = part.part.partition(".")
        if part.layer == "mixer" and dot and len(part.shape) > 1:
            by_block.setdefault(part.block, {})[component] = part.variance
    ratios = [a / b if b else math.inf for a, b in (of.values() for of in by_block.values() if len(of) == 2)]
    if not ratios:
        return _missing("S4", asks, limits, "no mixer fuses two recurrent ones")
    worst = max(ratios, key=lambda ratio: abs(math.log(ratio)) if 0 < ratio < math.inf else math.inf)
    return Check(name="S4", asks=asks, value=worst, limits=limits, verdict=_within(worst, VARIANCES, VARIANCES_WARNED))


def _evolution(states: StateProfile) -> Iterator[Check]:
    asks, limits = "the state evolves: cosine of successive tokens' states, highest", f"under {STATIC:g}"
    cosines = [part.next_cosine for part in states.parts if part.next_cosine is not None]
    if not cosines:
        yield _missing("G3.5", asks, limits, "there is no recurrent state after two tokens")
        return
    worst = max(cosines)
    verdict: Verdict = "PASS" if worst < STATIC else "WARN" if worst < FROZEN else "FAIL"
    yield Check(name="G3.5", asks=asks, value=worst, limits=limits, verdict=verdict)
    asks, limits = "the state is not saturated: share of elements beyond 5, highest", f"under {SATURATED:g}"
    share = max(part.saturation for part in states.parts)
    verdict = "PASS" if share < SATURATED else "WARN" if share < SATURATED_WARNED else "FAIL"
    yield Check(name="G3.5 saturation", asks=asks, value=share, limits=limits, verdict=verdict)


def _balance(gradients: GradientProfile) -> Check:
    asks = "gradient of one component over the other's, farthest from 1"
    limits = "{:g} to {:g}, warned of to {:g} to {:g}".format(*BALANCED, *TOLERATED)
    if not gradients.balances:
        return _missing("G4", asks, limits, "no mixer fuses two")
    ratios = [of.ratio.mean for of in gradients.balances]
    worst = max(ratios, key=lambda ratio: abs(math.log(ratio)) if 0 < ratio < math.inf else math.inf)
    return Check(name="G4", asks=asks, value=worst, limits=limits, verdict=_within(worst, BALANCED, TOLERATED))


def _outputs(model: LanguageModel, batch: TokenBatch, plan: ExecutionPlan) -> tuple[float, float, float]:
    """Share of logits that are finite, mean entropy over ln V, nats per scored token."""
    finite, entropies, nats = [], [], []
    targets = torch.from_numpy(np.ascontiguousarray(batch.targets)).to(plan.device)
    with evaluating(model), torch.no_grad(), plan.autocast():
        hidden, _ = model.hidden(torch.from_numpy(np.ascontiguousarray(batch.inputs)).to(plan.device))
        for of, labels in zip(hidden, targets, strict=True):
            logits = model.head(of).double()
            finite.append(float(logits.isfinite().double().mean()))
            entropies.append(float(torch.special.entr(logits.softmax(-1)).sum(-1).mean()))
            nats.append(float(token_nats(of, model.head_weight, labels).double().sum()))
    scored = max(1, int((batch.targets != IGNORED).sum()))
    return float(np.mean(finite)), float(np.mean(entropies)) / math.log(model.vocab_size), sum(nats) / scored


def _state(model: LanguageModel, ids: torch.Tensor, plan: ExecutionPlan) -> ModelState:
    with evaluating(model), torch.no_grad(), plan.autocast():
        return model.hidden(ids)[1]


def _pairs(a: ModelState, b: ModelState) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield from zip(state_tensors(a.blocks), state_tensors(b.blocks), strict=True)


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference over the largest element."""
    if not a.numel():
        return 0.0
    size = float(torch.maximum(a.abs().max(), b.abs().max()))
    return float((a.double() - b.double()).abs().max()) / size if size else 0.0


def _judged(fine: bool) -> Verdict:
    return "PASS" if fine else "FAIL"


def _within(value: float, passes: tuple[float, float], warned: tuple[float, float]) -> Verdict:
    if passes[0] <= value <= passes[1]:
        return "PASS"
    return "WARN" if warned[0] <= value <= warned[1] else "FAIL"


def _at_least(name: str, asks: str, value: float, limit: float) -> Check:
    return Check(name=name, asks=asks, value=value, limits=f"{limit:g} or more", verdict=_judged(value >= limit))


def _missing(name: str, asks: str, limits: str, why: str) -> Check:
    return Check(name=name, asks=asks, value=None, limits=limits, verdict="NOT APPLICABLE", why=why)


register(MeasureDocumentChecks())
