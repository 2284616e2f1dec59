"""Checks of costs: declared parameters, FLOPs and state bytes are those counted, and sizes can be had."""

import torch

from assay.audit.checks.accounting import CLOSE, counted_flops
from assay.audit.contract.models import FORMS, TOKENS, Reasons, ids_for, smallest, smallest_redrawn
from assay.errors import RequestError
from assay.layers.mixer import state_tensors
from assay.model.accounting import count_parameters, count_state_bytes, executed_flops, without_flops
from assay.model.architecture import Architecture
from assay.model.sizing import build_on_meta, solve
from assay.records import Finding

BYTES = 4
"""Bytes of an element of the activations in these models, which are float32."""
CONTEXTS = (1, 3, TOKENS)
RUNS = ((FORMS[0], 23), (FORMS[1], TOKENS), (FORMS[1], 64), (FORMS[3], 100))
"""(form, number of tokens) of each run: the loop, part of a chunk, whole chunks, long chunks."""
SIZE, VOCAB_SIZE = 1_000_000, 4096


def accounting(architecture: Architecture) -> Finding:
    """1. Groups of parameters add up; 2. `state_bytes` are those of the state that is returned; 3. `executed_flops`,
    where all layers declare them, are within 2% of what torch counts, in every form; 4. no cost is negative.
    A warning where 5. a tensor of a state is a view that keeps something larger in memory.
    """
    wrong, kept = Reasons(), Reasons()
    model = smallest_redrawn(architecture)
    try:
        count_parameters(model)
    except AssertionError as error:
        wrong.note(1, str(error))
    for context in CONTEXTS:
        ids = ids_for(model, 1, context)
        with torch.no_grad():
            _, state = model.prefill(ids)
        parts = list(state_tensors(tuple(state)))
        returned = sum(part.numel() * part.element_size() for part in parts)
        declared = count_state_bytes(model, ids.shape[1], BYTES)
        if returned != declared:
            words = f"{declared} bytes of state declared after {ids.shape[1]} tokens, {returned} returned"
            wrong.note(2, f"{words}; `state_bytes` of a layer must say what its state takes")
        views = [part for part in parts if part.untyped_storage().nbytes() > part.numel() * part.element_size()]
        if views:
            shape, held = list(views[0].shape), views[0].untyped_storage().nbytes()
            words = f"of the state after {ids.shape[1]} tokens a tensor {shape} is a view of {held} bytes"
            kept.note(5, f"{words}, which stay in memory with it; .clone() would do")
    declares = _flops(architecture, wrong)
    flops = "declared FLOPs" if declares else "executed FLOPs are not declared; parameters"
    passed = f"{flops} and state bytes are what is counted"
    return wrong.finding("accounting", passed) if wrong.found else kept.finding("accounting", passed, "warn")


def _flops(architecture: Architecture, wrong: Reasons) -> bool:
    """Note in `wrong` what is wrong with executed FLOPs; return whether every layer declares them."""
    model = smallest(architecture).eval()
    for form, tokens in RUNS:
        model.set_execution(form)
        ids = ids_for(model, 1, tokens)
        executed = executed_flops(model, ids.shape[1])
        if executed is None:
            return False
        with torch.no_grad():
            counted = counted_flops(model, ids)
        if abs(executed.counted - counted) > CLOSE * counted:
            words = f"{executed.counted} executed FLOPs declared for {ids.shape[1]} tokens in {form.form} form"
            wrong.note(3, f"{words}, {counted} counted; None would leave them undeclared")
        less = [name for name, count in executed.uncounted.items() if count < 0]
        if less:
            wrong.note(4, f"`executed_flops` says that {', '.join(less)} take less than nothing")
    return True


def declared_flops(architecture: Architecture) -> Finding:
    """A layer that keeps a state says what that costs: what it inherits counts matrices alone."""
    layers = without_flops(smallest(architecture))
    words = "every layer that keeps a state declares its FLOPs"
    if layers:
        words = (
            f"{', '.join(layers)} keeps a state and inherits FLOPs that count its matrices alone; `flops_per_token` "
            "should add what reading and writing the state takes: two per multiply-add, one per further multiplication"
        )
    return Finding(check="declared_flops", status="warn" if layers else "pass", explanation=words)


def sizing(architecture: Architecture) -> Finding:
    """Sizing finds a model of a million parameters, within 1% as built."""
    try:
        config = solve(architecture, SIZE, "total", {"vocab_size": VOCAB_SIZE})
    except RequestError as error:
        return Finding(check="sizing", status="warn", explanation=str(error))
    built = sum(parameter.numel() for parameter in build_on_meta(architecture, config).parameters())
    words = f"--size 1M --match total gives {built:,} parameters: width {config.d_model}, {config.n_layers} layers"
    return Finding(check="sizing", status="pass", explanation=words)
