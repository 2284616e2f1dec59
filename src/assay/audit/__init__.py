"""The audit of any language model: does it cheat (by seeing later tokens, say, or by miscounting its loss), and where.

Each check is a function in a module of its own name and can be called alone: make a subject with `borrowed`, a search
with `plan_search` and a `yardstick`, and call for example `causality.causality(subject, search, yardstick)`.

The package can be called, as `assay.audit(model)`, since it has the same name as its main function.
"""

import sys
from types import ModuleType

from assay.audit.full import audit
from assay.audit.probing.search import Search, plan_search
from assay.audit.probing.yardstick import Yardstick, yardstick
from assay.audit.quick import quick_audit
from assay.audit.report import DECIDING, AuditReport, Searched
from assay.audit.subject.borrowing import borrowed
from assay.audit.subject.second_weights import add_redrawn
from assay.audit.subject.subject import Subject

__all__ = [
    "DECIDING",
    "AuditReport",
    "Search",
    "Searched",
    "Subject",
    "Yardstick",
    "add_redrawn",
    "audit",
    "borrowed",
    "plan_search",
    "quick_audit",
    "yardstick",
]


class _Callable(ModuleType):
    """Makes the package callable: importing it sets `assay.audit` to the package, where the function was before."""

    __call__ = staticmethod(audit)


sys.modules[__name__].__class__ = _Callable
