"""What `assay check` asks of a file and `assay compare` of its arms, asked of everything that is registered."""

import pytest

from assay.audit import quick_audit
from assay.audit.contract_checks import complete_initialisation, forms, roles, smallest, storing
from assay.model.architecture import ARCHITECTURES

NAMES = [item.name for item in ARCHITECTURES if not item.name.startswith(("gpt2ish-", "s-gpt2ish"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_registered_architecture_passes_its_checks(name: str) -> None:
    architecture = ARCHITECTURES.get(name)
    answers = [check(architecture) for check in (forms, roles, complete_initialisation, storing)]
    assert [finding for finding in answers if finding.status == "fail"] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
def test_the_audit_of_a_study_tells_the_sound_from_the_unsound(name: str, trained: bool) -> None:
    architecture = ARCHITECTURES.get(name)
    report = quick_audit(smallest(architecture), trained, max_length=70)
    assert report.sound == (architecture.unsound is None), report.summary()
