"""Labels under any name: what moves logits is found and said, what only makes a loss passes."""

import re
from collections.abc import Mapping

import pytest
from torch import nn

import gallery_labels as models
from assay.audit import audit, borrowed, plan_search, yardstick
from assay.audit.calling.labels import takes_labels
from assay.audit.checks.labels import labels
from assay.audit.scoring.check import scoring
from assay.records import Finding
from plain_models import seeded


def findings(model: nn.Module, training: bool = False, scored: bool = False) -> Mapping[str, Finding]:
    """What is said of labels, in one mode; with `scored` also of the loss."""
    with borrowed(model, longest=17) as subject:
        search = plan_search(subject.longest, cost=1, thorough=False, seed=0)
        found = [scoring(subject, search)] if scored else []
        found += labels(subject, search, yardstick(subject, search), training)
    return {finding.check: finding for finding in found}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in ("labels", "targets", "y", "tgt", "next_tokens", "target_ids", "targetIds", "ys")),
        *((name, False) for name in ("attention_mask", "label_smoothing", "return_labels", "output_hidden_states")),
        *((name, False) for name in ("position_ids", "next_state", "target_mask", "num_targets", "past_key_values")),
    ],
)
def test_labels_are_known_by_name(name: str, expected: bool) -> None:
    assert takes_labels(name) == expected


@pytest.mark.parametrize("kind", ["Targets", "AnyKeyword", "Batched", "Pair", "NextTokens", "Sequel"])
def test_labels_in_the_input_are_a_leak_under_any_name(kind: str) -> None:
    make, training = getattr(models, kind), kind == "NextTokens"
    found = findings(seeded(lambda: make(True), 7), training)["labels"]
    assert found.status == "fail"
    assert found.where is not None
    assert re.match(rf"{kind} itself: position \d+ moves when `\w+` change", found.where)
    assert "a score that has seen its labels" in found.explanation
    sound = findings(seeded(lambda: make(False), 7), training, scored=kind in ("Targets", "Pair", "Sequel"))
    assert {finding.status for finding in sound.values()} == {"pass"}


def test_what_labels_switch_on_is_found_whatever_they_are() -> None:
    found = findings(seeded(lambda: models.OpensWithLabels(True), 7))["labels"]
    assert (found.status, "`y` given" in found.explanation) == ("fail", True)
    assert findings(seeded(lambda: models.OpensWithLabels(False), 7))["labels"].status == "pass"


def test_a_loss_of_other_logits_than_those_returned() -> None:
    found = findings(seeded(lambda: models.SharperThanTheLogits(True), 7), scored=True)
    assert (found["labels"].status, found["scoring"].status) == ("pass", "fail")


def test_other_logits_for_sampling_are_no_leak() -> None:
    found = findings(seeded(lambda: models.LastUnlessTargets(False), 7))["labels"]
    assert (found.status, "logits are others without them" in found.explanation) == ("pass", True)


@pytest.mark.parametrize(
    ("model", "status"),
    [
        (models.PastLabels, "pass"),
        (models.LeavesOut, "pass"),
        (models.WithAuxiliary, "warn"),
    ],
)
def test_sound_uses_of_labels(model: type[models.Labelled], status: str) -> None:
    found = findings(seeded(lambda: model(False), 7), scored=True)
    assert (found["labels"].status, found["scoring"].status) == ("pass", status)


def test_the_audit_decides_by_labels() -> None:
    report = audit(seeded(lambda: models.NextTokens(True), 7), max_length=17)
    assert not report.sound
    assert report.summary().startswith("unsound: labels (NextTokens itself")
