"""The audit of any language model: does it cheat, and where.

Each check is a function in a module of its own name, for whoever wants one of them alone: make a subject with
`borrowed`, a `plan_search` and a `yardstick`, and call `causality.causality(subject, search, yardstick)`.
"""

from assay.evaluation.audit.auditing import audit
from assay.evaluation.audit.borrowing import borrowed
from assay.evaluation.audit.findings import DECIDING, AuditReport, Finding, Searched
from assay.evaluation.audit.quick import quick_audit
from assay.evaluation.audit.redrawing import add_redrawn
from assay.evaluation.audit.rounding import Yardstick, yardstick
from assay.evaluation.audit.search import Search, plan_search
from assay.evaluation.audit.subject import Subject

__all__ = [
    "DECIDING",
    "AuditReport",
    "Finding",
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
