"""Everything that is asked of an architecture, of those in the repository and of anybody's alike.

Each check takes an architecture, builds its smallest model and answers with a Finding; `check_architecture` asks all.
"""

from collections.abc import Callable

from assay.audit.contract.costs import accounting, declared_flops, sizing
from assay.audit.contract.gradients import dead_parameters, learning, reach
from assay.audit.contract.models import smallest
from assay.audit.contract.publishing import publishing
from assay.audit.contract.same_numbers import decoding, forms
from assay.audit.contract.weights import complete_initialisation, dropout, roles, storing, zero_outputs
from assay.audit.full import audit
from assay.audit.report import AuditReport
from assay.model.architecture import Architecture
from assay.records import Finding

Check = Callable[[Architecture], Finding]

IF_SOUND: tuple[Check, ...] = (reach, decoding, publishing, dead_parameters)
"""Asked of what claims to be sound: a layer that hears later tokens cannot keep them."""
CHECKS: tuple[Check, ...] = (
    forms,
    roles,
    complete_initialisation,
    zero_outputs,
    dropout,
    learning,
    storing,
    accounting,
    declared_flops,
    sizing,
    *IF_SOUND,
)
PROMISED = {"parity": "`forward` must continue from every state, one token at a time too"}
"""What an architecture has declared, and how to keep it."""


def check_architecture(architecture: Architecture) -> tuple[AuditReport, list[Finding]]:
    """The audit of its smallest model, and what an architecture must keep besides, which asks some checks anew."""
    report = audit(smallest(architecture), fresh=True)
    own = [check(architecture) for check in CHECKS]
    asked_anew = {finding.check for finding in own}
    return report, [*(held(finding) for finding in report.findings if finding.check not in asked_anew), *own]


def held(finding: Finding) -> Finding:
    """An audit's finding; what it only warns of in anybody's model fails where an architecture promised it."""
    if finding.check not in PROMISED or finding.status != "warn":
        return finding
    words = f"{finding.explanation}; {PROMISED[finding.check]}"
    return finding.model_copy(update={"status": "fail", "explanation": words})
