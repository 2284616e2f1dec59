"""All checks of an architecture, the same for assay's own and for those of plug-ins.

Each check takes an architecture, builds its smallest model and returns a Finding; `check_architecture` runs all.
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
"""Checks run only on architectures that claim to be sound: a layer that sees later tokens cannot pass them."""
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
"""Checks of the audit that only warn in general but fail for an architecture, which promises them; and what to do."""


def check_architecture(architecture: Architecture) -> tuple[AuditReport, list[Finding]]:
    """The audit of its smallest model, and the findings of all contract checks, some of which the audit makes too."""
    report = audit(smallest(architecture), fresh=True)
    asked = [check for check in CHECKS if architecture.unsound is None or check not in IF_SOUND]
    own = [check(architecture) for check in asked]
    asked_anew = {finding.check for finding in own}
    return report, [*(held(finding) for finding in report.findings if finding.check not in asked_anew), *own]


def held(finding: Finding) -> Finding:
    """An audit's finding, with a warning turned into a failure where the architecture has promised that behaviour."""
    if finding.check not in PROMISED or finding.status != "warn":
        return finding
    words = f"{finding.explanation}; {PROMISED[finding.check]}"
    return finding.model_copy(update={"status": "fail", "explanation": words})
