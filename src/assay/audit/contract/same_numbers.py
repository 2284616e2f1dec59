"""Checks that logits do not depend on how they are computed: in which form of the ops, in one call or token by token.

Shapes: B rows, T tokens, V vocabulary.
"""

import torch
from torch import Tensor

from assay.audit.contract.models import CLOSE, FORMS, Reasons, difference, ids_for, on_both_weights
from assay.model.architecture import Architecture
from assay.model.lm import LanguageModel
from assay.model.plan import ops_of
from assay.ops.execution import recorded_forms
from assay.records import Finding

SPLITS = (1, 5, 16, 36)
"""Lengths of the first part of a sequence; the rest continues from its state."""
STEPS = 4


def forms(architecture: Architecture) -> Finding:
    """1. The ops that run are those that the layers declare; 2. each runs in the form that is planned for it; 3. loop
    and chunked forms, at three chunk lengths, give the same logits. Skipped for mixers that have one form.
    """
    reasons, ops = Reasons(), set()
    for weights, model in on_both_weights(architecture):
        whole, declared = None, {op.name: op for op in ops_of(model)}
        for form in FORMS:
            model.set_execution(form)
            with torch.no_grad(), recorded_forms() as ran:
                logits = model(ids_for(model))
            ops |= {*ran, *declared}
            if differ := sorted(set(ran) ^ set(declared)):
                words = "the ops that ran are not those of the layers' `ops`, which go into records"
                reasons.note(1, f"{', '.join(differ)}: {words}")
            known = [op for op in ran if op in declared]
            if other := sorted(op for op in known if ran[op] != {declared[op].planned(form)}):
                reasons.note(2, f"{', '.join(other)} did not run in the form that was asked for, {form.form}")
            whole = logits if whole is None else whole
            asked = f"{form.form} form, {form.chunk_length} tokens a chunk, differs from the loop ({weights})"
            reasons.note_if_far(3, difference(logits, whole), asked)
    if not ops and not reasons.found:
        return Finding(check="forms", status="skip", explanation="its mixers have one form only")
    found = reasons.finding("forms", "loop and chunked forms, at chunks of 16, 32 and 64, give the same logits")
    return found.model_copy(update={"measured": reasons.largest, "threshold": CLOSE})


@torch.no_grad()
def decoding(architecture: Architecture) -> Finding:
    """1. Going on from the state of a first part, 2. token by token from there, and 3. token by token from the initial
    state, with a capacity and without, give the logits of one call.
    """
    reasons = Reasons()
    for weights, model in on_both_weights(architecture):
        ids = ids_for(model)
        whole = model(ids)
        for split in [split for split in SPLITS if split < ids.shape[1]]:
            _resumed(model, ids, whole, split, weights, reasons)
        for capacity in (None, ids.shape[1]):
            state, given = model.initial_state(len(ids), capacity), "" if capacity is None else f"capacity={capacity}"
            for t in range(min(STEPS, ids.shape[1])):
                logits, state = model.step(ids[:, t], state)
                words = f"token {t} stepped from initial_state({given}) differs from one call ({weights})"
                reasons.note_if_far(3, difference(logits, whole[:, t]), words)
    found = reasons.finding("decoding", "parts and single tokens that hand a state on give the logits of one call")
    return found.model_copy(update={"measured": reasons.largest, "threshold": CLOSE})


def _resumed(model: LanguageModel, ids: Tensor, whole: Tensor, split: int, weights: str, reasons: Reasons) -> None:
    tokens = ids.shape[1]
    first, state = model.prefill(ids[:, :split])
    second, _ = model.prefill(ids[:, split:], state)
    words = f"{split} tokens and then {tokens - split} from their state differ from one call ({weights})"
    reasons.note_if_far(1, difference(torch.cat([first, second], 1), whole), words)
    for t in range(split, min(tokens, split + STEPS)):
        logits, state = model.step(ids[:, t], state)
        words = f"token {t} stepped after a first part of {split} differs from one call ({weights})"
        reasons.note_if_far(2, difference(logits, whole[:, t]), words)
