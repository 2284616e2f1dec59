"""Checks by gradient: which tokens an output depends on, which parameters matter, and that training lowers the loss.

Shapes: B rows, T tokens, D width.
"""

import torch
from torch import Tensor

from assay.audit.contract.models import FORMS, Reasons, ids_for, smallest, smallest_redrawn
from assay.model.architecture import Architecture
from assay.model.lm import LanguageModel
from assay.ops.cross_entropy import summed_nats
from assay.ops.execution import Execution
from assay.records import Finding

POSITIONS = (0, 15, 16, 20, 36)
LEAK = 1e-10
"""Gradients with respect to later tokens up to this, relative to those of earlier ones, are rounding."""
UNREAD = 1e-9
"""Gradients with respect to earlier tokens up to this, relative to that of the position's own token, count as zero."""
STEPS, LEARNING_RATE, LOWER_NATS = 12, 1e-2, 0.3


def reach(architecture: Architecture) -> Finding:
    """1. No hidden state has a gradient with respect to a later token, in the loop and in the chunked form; a warning
    where 2. none has one with respect to an earlier token: its mixers move nothing along the sequence.
    """
    model, leaks, unread = smallest_redrawn(architecture).double(), Reasons(), Reasons()
    reads = False
    for form in FORMS[:2]:
        for t, size in token_gradients(model, form):
            own, past = size[t].item(), size[: t + 1].max().item()
            later = size[t + 1 :].max().item() if t + 1 < len(size) else 0.0
            if not later <= LEAK * past:
                where = t + 1 + int(size[t + 1 :].argmax())
                words = f"the hidden state at {t} has a gradient with respect to token {where}"
                leaks.note(1, f"{words} ({form.form} form)")
            reads |= t > 0 and size[:t].max().item() > UNREAD * own
    if not reads:
        unread.note(2, "no hidden state depends on an earlier token: its mixers move nothing along the sequence")
    passed = "hidden states depend on earlier tokens and on no later one"
    return leaks.finding("reach", passed) if leaks.found else unread.finding("reach", passed, "warn")


def token_gradients(model: LanguageModel, form: Execution) -> list[tuple[int, Tensor]]:
    """For several positions t: (t, norms [T], over embeddings, of the gradient of a random sum of t's hidden state)."""
    model.set_execution(form)
    ids = ids_for(model, rows=1)
    x = model.embedding(ids).detach().requires_grad_()
    y, shared = x, {"ids": ids}
    for block in model.sequence_blocks():
        y, _ = block(y, None, shared)
    y = model.norm(y)[0]
    weights = torch.randn(y.shape[1], generator=torch.Generator().manual_seed(5), dtype=y.dtype)
    found = []
    for t in [t for t in POSITIONS if t < len(y)]:
        (gradient,) = torch.autograd.grad(y[t] @ weights, x, retain_graph=True)
        found.append((t, gradient[0].norm(dim=-1)))
    return found


def dead_parameters(architecture: Architecture) -> Finding:
    """A warning where 1. a parameter has no gradient: it is counted in the size and does nothing."""
    model, reasons = smallest_redrawn(architecture).double(), Reasons()
    ids = ids_for(model)
    hidden, _ = model.hidden(ids)
    summed_nats(hidden.flatten(0, 1), model.head_weight, ids.roll(-1, 1).flatten()).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    if dead:
        reasons.note(1, f"no gradient reaches {', '.join(dead)}")
    return reasons.finding("dead_parameters", "every parameter has a gradient", "warn")


def learning(architecture: Architecture) -> Finding:
    """Twelve steps on one batch lower its loss, 1. in its own body and 2. in the common one."""
    reasons, lowest, words = Reasons(), float("inf"), []
    for number, body in enumerate(("native", "common"), 1):
        losses = _losses(smallest(architecture, options={"body": body}))
        lowest = min(lowest, losses[0] - losses[-1]) if losses[-1] == losses[-1] else losses[-1]
        words.append(f"{losses[0]:.2f} to {losses[-1]:.2f} nats per token in body {body}")
        if not losses[0] - losses[-1] > LOWER_NATS:
            reasons.note(number, f"{STEPS} steps on one batch: {words[-1]}; {LOWER_NATS} less is asked for")
    found = reasons.finding("learning", f"{STEPS} steps on one batch: {', '.join(words)}")
    return found.model_copy(update={"measured": lowest, "threshold": LOWER_NATS})


def _losses(model: LanguageModel) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    ids, losses = ids_for(model), []
    for _ in range(STEPS):
        hidden, _ = model.hidden(ids[:, :-1])
        loss = summed_nats(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten()) / ids[:, 1:].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
