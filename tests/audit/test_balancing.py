"""What training calls change: a bias balanced by counts is a warning, a memory of tokens a failure."""

import pytest
import torch
from torch import Tensor, nn

from assay.audit import borrowed, plan_search, yardstick
from assay.audit.checks.calls import calls
from assay.audit.checks.modes import modes
from assay.records import Finding
from gallery_drift import Balanced, Held
from gallery_modes import MeanOfTokensInTraining
from plain_models import D, Small, causal_attention, seeded, small


def in_training(model: nn.Module, check: str = "isolation") -> Finding:
    with borrowed(model, longest=40) as subject:
        search = plan_search(subject.longest, cost=1, thorough=False, seed=0)
        stick = yardstick(subject, search)
        return modes(subject, stick) if check == "modes" else calls(subject, search, stick, training=True)


class IdsOfTheLastCall(nn.Module):
    """Adds a small number made of the ids of the last call: no value of a token, and no count of choices either."""

    def __init__(self, model: Small) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("kept", torch.zeros(D))
        self.kept: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        x = self.model.embedding(ids) + self.kept
        if self.training:
            self.kept = 0.0005 * ids.flatten()[:D].to(x)
        logits: Tensor = self.model.head(causal_attention(x))
        return logits


@pytest.mark.parametrize("held", ["buffer", "new buffer", "parameter", "attribute"])
def test_a_balanced_bias_is_a_warning_that_names_it(held: Held) -> None:
    found = in_training(seeded(lambda: small(Balanced(rate=0.03, held=held)), 7))
    assert found.status == "warn"
    assert "nudge `blocks.1.mixer.bias`, by 0.03 at most" in found.explanation


def test_a_memory_of_values_or_of_ids_is_a_failure() -> None:
    assert in_training(seeded(lambda: small(MeanOfTokensInTraining(True)), 7)).status == "fail"
    remembers = seeded(lambda: IdsOfTheLastCall(Small([])), 7)
    assert in_training(remembers).status == "fail"


def test_a_bias_nudged_before_routing_is_no_refined_estimate() -> None:
    found = in_training(seeded(lambda: small(Balanced(True)), 7), "modes")
    assert (found.status, "the tokens of a call move" in found.explanation) == ("fail", True)
    assert in_training(seeded(lambda: small(Balanced(False)), 7), "modes").status == "pass"
