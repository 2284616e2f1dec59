"""Accounting: the parameters, FLOPs and state bytes that one of assay's models declares are those that are counted."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from assay.audit.probing.search import Search
from assay.audit.subject.subject import Subject
from assay.layers.mixer import state_tensors
from assay.model.accounting import count_parameters, count_state_bytes, executed_flops
from assay.model.lm import LanguageModel
from assay.ops.execution import is_extra_work
from assay.records import Finding

CLOSE = 0.02
"""How far declared executed FLOPs may be from those counted, relative."""


def accounting(subject: Subject, search: Search) -> Finding:
    """Parameter groups add up, state bytes are what `prefill` returns, executed FLOPs what torch's counter counts."""
    model = subject.model
    if not isinstance(model, LanguageModel):
        words = "only assay's own models declare what they cost"
        return Finding(check="accounting", status="skip", explanation=words)
    wrong = []
    try:
        count_parameters(model)
    except AssertionError as error:
        wrong.append(str(error))
    size = torch.empty(0, dtype=torch.float64 if subject.wide else subject.own_type).element_size()
    for context in sorted({1, 3, search.content}):
        ids = torch.zeros(1, context, dtype=torch.long, device=subject.device)
        with subject.running():
            _, state = model.prefill(ids)
        returned = sum(tensor.numel() * tensor.element_size() for tensor in state_tensors(state))
        declared = count_state_bytes(model, context, size)
        if returned != declared:
            wrong.append(f"{declared} bytes of state declared after {context} tokens, {returned} returned")
    with subject.running() as running:
        counted = counted_flops(running, torch.zeros(1, search.content, dtype=torch.long, device=subject.device))
    executed = executed_flops(model, search.content)
    if executed is not None and abs(executed.counted - counted) > CLOSE * counted:
        wrong.append(f"{executed.counted} executed FLOPs declared for {search.content} tokens, {counted} counted")
    undeclared = "" if executed is not None else "; executed FLOPs are not declared"
    words = "; ".join(wrong) or "declared parameters, FLOPs and state bytes are what is counted"
    return Finding(
        check="accounting",
        status="warn" if wrong else "pass",
        measured=float(len(wrong)),
        threshold=0.0,
        explanation=words + undeclared,
    )


class _FlopCounter(TorchDispatchMode):
    """Counts the FLOPs of every operation that runs, by torch's own formulas, but for what values of tensors cause."""

    def __init__(self) -> None:
        super().__init__()
        self.total: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch would load its compiler because of this mode, which takes two seconds and is not needed.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None and not is_extra_work():
            self.total += int(formula(*args, **(kwargs or {}), out_val=result))
        return result


def counted_flops(model: Callable[[Tensor], object], ids: Tensor) -> int:
    """FLOPs of one forward pass on `ids` [B, T] as torch counts them, with attention in torch's math backend.

    Without the `extra_work` of ops, as declared FLOPs follow from shapes alone.
    """
    with sdpa_kernel(SDPBackend.MATH), _FlopCounter() as counter:
        model(ids)
    return int(counter.total)
