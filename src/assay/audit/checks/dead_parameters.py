"""Dead parameters: those that no logit has a gradient with respect to, on the redrawn copy."""

import torch

from assay.audit.probing.search import Search
from assay.audit.subject.subject import RaisedError, Subject
from assay.records import Finding

NAMED = 6
ROWS, TOKENS = 2, 128


def dead_parameters(subject: Subject, search: Search) -> Finding:
    """Differentiate a random sum of the logits of two rows; a parameter without any gradient is a warning.

    Of a large model it is one row. Parameters with `requires_grad` False are left out. Use it on the redrawn copy: a
    weight that is zero lets no gradient through, so that parameters before it would seem dead.
    """
    generator = torch.Generator().manual_seed(search.seed + 10)
    tokens = subject.takes.fit(min(TOKENS, search.longest))
    shape = (1 if search.brief else ROWS, tokens)
    ids = torch.randint(subject.vocab_size, shape, generator=generator).to(subject.device)
    named = [(name, p) for name, p in subject.model.named_parameters() if p.requires_grad]
    if not named:
        return Finding(check="dead_parameters", status="skip", explanation="no parameter asks for a gradient")
    try:
        with subject.running(dropout=False, gradients=True):
            logits = subject.called(ids)
            weights = torch.randn(logits.shape, generator=generator, dtype=torch.float64).to(logits)
            total = (logits.where(logits.isfinite(), 0.0) * weights).sum()
            if not total.requires_grad:
                return Finding(check="dead_parameters", status="skip", explanation="the logits have no gradient")
            gradients = torch.autograd.grad(total, [p for _, p in named], allow_unused=True)
    except RaisedError as error:
        return Finding(check="dead_parameters", status="skip", explanation=f"no gradient: {error}")
    dead = [name for (name, _), g in zip(named, gradients, strict=True) if g is None or not bool((g != 0).any())]
    if not dead:
        words = f"all {len(named)} parameters receive gradient"
        return Finding(check="dead_parameters", status="pass", measured=0.0, threshold=0.0, explanation=words)
    more = f" and {len(dead) - NAMED} more" if len(dead) > NAMED else ""
    return Finding(
        check="dead_parameters",
        status="warn",
        measured=float(len(dead)),
        threshold=0.0,
        where=", ".join(dead[:NAMED]) + more,
        modules=tuple(dict.fromkeys(name.rpartition(".")[0] for name in dead)),
        explanation=f"{len(dead)} of {len(named)} parameters receive no gradient from any logit",
    )
