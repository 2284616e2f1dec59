"""Non-finite activations: NaN or +infinity in what any module returns. (-infinity is allowed, as masks hold it.)"""

import torch
from torch import nn

from assay.audit.blame.tracer import leaves_of
from assay.audit.probing.probes import mixed_row
from assay.audit.probing.search import Search
from assay.audit.subject.subject import Subject
from assay.records import Finding


def activations(subject: Subject, search: Search) -> Finding:
    """Look at what every module returns on the longest sequences; NaN or +inf is a warning, -inf may be a mask."""
    found: list[str] = []

    names = {module: name for name, module in subject.model.named_modules()}

    def look(module: nn.Module, _: object, output: object) -> None:
        tensors = [tensor for tensor in leaves_of(output).values() if tensor.is_floating_point()]
        if not all(bool((tensor < torch.inf).all()) for tensor in tensors):  # false for NaN too
            found.append(names[module])

    handles = [m.register_forward_hook(look) for m in names if not isinstance(m, torch.jit.ScriptModule)]
    try:
        subject.references.pop(subject.weights, None)
        subject.reference(mixed_row(search, subject.vocab_size, subject.special_ids))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        words = f"every module's output is finite on {search.longest} tokens"
        return Finding(check="activations", status="pass", explanation=words)
    unique = list(dict.fromkeys(found))
    return Finding(
        check="activations",
        status="warn",
        measured=float(len(unique)),
        threshold=0.0,
        where=unique[0] or subject.name,
        modules=tuple(unique),
        explanation=f"{len(unique)} modules return NaN or infinity on {search.longest} random tokens",
    )
