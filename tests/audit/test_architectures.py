"""Architectures registered as sound pass the audit; the replica of the leaking GroundThink hybrid (research note
"document 001") fails it, and both of its leaks are named.
"""

import pytest

from assay.audit import add_redrawn, audit, borrowed, plan_search, yardstick
from assay.audit.checks.causality import causality
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel


def tiny(name: str) -> LanguageModel:
    architecture = ARCHITECTURES.get(name)
    return build_model(architecture, architecture.config.parse({**architecture.tiny, "dropout": 0.3}), 0)


def test_a_sound_architecture_passes_every_check() -> None:
    found = audit(tiny("gpt1"), fresh=True, max_length=40)
    assert found.sound, found.summary()
    answers = {finding.check: finding.status for finding in found.findings}
    assert set(answers.values()) == {"pass"}, [f for f in found.findings if f.status != "pass"]
    assert {"causality", "parity", "scoring", "accounting", "initialisation", "modes"} <= set(answers)


@pytest.mark.slow
@pytest.mark.parametrize("name", [a.name for a in ARCHITECTURES if a.unsound is None])
def test_every_sound_architecture_passes(name: str) -> None:
    found = audit(tiny(name), fresh=True)
    assert found.sound, found.summary()


def test_both_leaks_of_document_001_are_named() -> None:
    with borrowed(tiny("groundthink-v7"), longest=24) as subject:
        add_redrawn(subject, 0)
        subject.use("redrawn")
        search = plan_search(subject.longest, cost=1, thorough=False, seed=0)
        finding = causality(subject, search, yardstick(subject, search))
    assert finding.status == "fail"
    assert finding.modules == ("blocks.1.mixer", "blocks.2.mixer")
    for words in (
        "blocks.1.mixer (MemoryLayerV7) reads, or starts from, `shared['groundthink.final_state']`",
        "the final state of blocks.0.mixer (MemoryLayerV7)",
        "blocks.2.mixer (ReaderLayerV7) reads, or starts from, `shared['groundthink.final_state']`",
        "the final state of blocks.1.mixer (MemoryLayerV7)",
    ):
        assert words in finding.explanation
