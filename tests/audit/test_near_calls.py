"""Memory between calls by a part of a row: found whatever the part; memory by the whole row passes."""

import pytest
from torch import nn

from assay.audit import add_redrawn, audit, borrowed, plan_search, yardstick
from assay.audit.checks.near_calls import near_calls
from assay.audit.probing.search import LARGE
from assay.records import Finding
from gallery import Mutant
from gallery_calls import CALLS, DECODERS

SEED = 7


def found(model: nn.Module, training: bool = False, cost: int = 0) -> Finding:
    """What the check says on redrawn weights; from a `cost` of LARGE on the search is smaller."""
    with borrowed(model, max_length=40) as subject:
        search = plan_search(subject.longest, cost, False, 0)
        add_redrawn(subject, 0)
        subject.use("redrawn")
        return near_calls(subject, search, yardstick(subject, search), training)


def named(name: str) -> Mutant:
    return next(mutant for mutant in CALLS if mutant.name == name)


@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("memo-by-first-four-ids", False),
        ("memo-by-storage", False),
        ("memo-by-weighted-sum", False),
        ("memo-by-first-row", True),
        ("memo-in-training", True),
        ("memo-of-rows", False),
        ("row-taken-for-a-continuation", False),
    ],
)
def test_memory_by_a_part_of_a_row_is_found(name: str, training: bool) -> None:
    mutant = named(name)
    assert found(mutant.twin(SEED), training).status == "pass"
    broken = found(mutant.make(SEED), training)
    assert (broken.status, broken.modules) == ("fail", ("",))
    assert broken.where is not None
    assert broken.where.endswith("(ids, sums remember)" if "continuation" in name else "(known remembers)")


@pytest.mark.parametrize("name", ["memo-by-first-and-last-id", "memo-by-all-but-the-last"])
def test_the_search_of_a_large_model_finds_it_too(name: str) -> None:
    assert found(named(name).make(SEED), cost=LARGE).status == "fail"


def test_a_memory_outside_of_the_model_is_put_back_and_named() -> None:
    for name, holder in (
        ("last-row-in-a-global", "gallery_memos._LAST"),
        ("hidden-by-first-input", "HiddenByStart.known"),
    ):
        broken = found(named(name).make(SEED))
        assert broken.modules == ("blocks.1.mixer",)
        assert f"({holder} remembers)" in str(broken.where)
        assert found(named(name).twin(SEED)).status == "pass"


def caught(mutant: Mutant) -> None:
    report = audit(mutant.make(SEED), max_length=40)
    finding = next(finding for finding in report.findings if finding.check == mutant.check)
    assert finding.status == "fail"
    assert mutant.module in finding.modules


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [*CALLS, *DECODERS], ids=lambda mutant: mutant.name)
def test_the_audit_catches_memory_and_wrong_decoding_and_passes_twins(mutant: Mutant) -> None:
    caught(mutant)
    twin = audit(mutant.twin(SEED), max_length=40)
    assert [finding for finding in twin.findings if finding.status == "fail"] == []
