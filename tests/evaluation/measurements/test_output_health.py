"""Output health on distributions that are known: uniform, sure and right, sure and wrong."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from assay.evaluation.measurements import output_health
from assay.evaluation.measurements.output_health import OutputHealth, oldest_rule_verdict, verdict
from assay.model.lm import LanguageModel
from evaluation.small import measured, tiny, windows

V = 61


def predicting(token: int, logit: float) -> LanguageModel:
    """A model that gives `token` this logit and all others zero, whatever comes in: its blocks add nothing."""
    model = tiny("gpt1", heads="untied", initialisation="blinkdl")
    assert model.untied_head is not None
    with torch.no_grad():
        model.embedding.tokens.zero_()
        model.embedding.tokens[:, 0] = 1.0  # normed, the hidden state is sqrt(32) in channel 0
        assert model.embedding.positions is not None
        model.embedding.positions.zero_()
        model.untied_head.zero_()
        model.untied_head[token, 0] = logit / math.sqrt(32)
    return model


def health(model: LanguageModel, rows: list[list[int]], context: int = 8) -> OutputHealth:
    got: OutputHealth = measured("output_health", model, windows(rows, context, range(len(rows))))
    return got


def test_uniform_logits() -> None:
    got = health(predicting(0, 0.0), [[1, 2, 3], [4, 5]])
    assert got.entropy_nats == pytest.approx(math.log(V), rel=1e-6)
    assert got.entropy_share == pytest.approx(1.0, rel=1e-6)
    assert got.max_probability == pytest.approx(1 / V, rel=1e-6)
    assert got.loss_minus_entropy_nats == pytest.approx(0.0, abs=1e-5)
    assert (got.logit_low, got.logit_high, got.share_above_099) == (0.0, 0.0, 0.0)
    assert (got.verdict, got.oldest_rule_verdict) == ("NEAR UNIFORM", "healthy")


def test_near_uniform_ends_at_its_share_of_the_entropy() -> None:
    assert [verdict(0.0, share) for share in (0.5, 0.95, 0.951)] == ["HEALTHY", "HEALTHY", "NEAR UNIFORM"]
    assert verdict(0.11, 0.99) == "OVERCONFIDENT"


def test_sure_and_wrong_is_overconfident() -> None:
    got = health(predicting(7, 20.0), [[1, 2, 3, 4]])
    assert got.loss_minus_entropy_nats == pytest.approx(20.0, abs=0.01)
    assert got.share_above_099 == 1.0
    assert got.logit_high == pytest.approx(20.0, rel=1e-4)
    assert (got.verdict, got.oldest_rule_verdict) == ("OVERCONFIDENT", "saturating")


def test_sure_and_right_is_healthy_by_calibration_alone() -> None:
    """The oldest rule looks at the peak, ours at whether the confidence is earned."""
    got = health(predicting(7, 20.0), [[1, 7, 7, 7]])
    assert got.loss_minus_entropy_nats < 0.01
    assert (got.verdict, got.oldest_rule_verdict) == ("HEALTHY", "saturating")


def test_overconfidence_begins_above_a_tenth_of_a_nat() -> None:
    """Token 7 has p = e^4 / (e^4 + 60); where a share s is right, the excess loss is 4 (p - s) nats."""
    p = math.exp(4.0) / (math.exp(4.0) + 60)
    for right, expected in ((20, "HEALTHY"), (19, "HEALTHY"), (18, "OVERCONFIDENT")):
        got = health(predicting(7, 4.0), [[1, *[7] * right, *[3] * (42 - right)]], context=42)
        assert got.loss_minus_entropy_nats == pytest.approx(4 * (p - right / 42), abs=1e-4)
        assert got.verdict == expected


def test_padded_targets_are_ignored() -> None:
    model = predicting(7, 20.0)
    full = health(model, [[1, 2, 3]], context=2)
    padded = health(model, [[1, 2, 3]], context=30)
    assert padded == full


def test_the_numbers_are_those_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one softmax over everything; the measurement itself goes in small pieces."""
    monkeypatch.setattr(output_health, "LOGITS", 3 * V)
    model = tiny()
    with torch.no_grad():
        model.embedding.tokens.mul_(20_000)
    rows = [list(np.random.default_rng(seed).integers(0, V, 9)) for seed in range(4)]
    model.train()
    got = health(model, rows)
    assert model.training
    with torch.no_grad():
        logits = model(torch.tensor(rows)[:, :-1]).flatten(0, 1)
    p = logits.softmax(-1)
    entropy = torch.special.entr(p).sum(-1).mean().item()
    loss = F.cross_entropy(logits, torch.tensor(rows)[:, 1:].flatten()).item()
    assert got.logit_low == pytest.approx(logits.min().item(), rel=1e-5)
    assert got.logit_high == pytest.approx(logits.max().item(), rel=1e-5)
    assert got.max_probability == pytest.approx(p.max().item(), rel=1e-5)
    assert got.share_above_099 == (p.max(-1).values > 0.99).float().mean().item()
    assert got.entropy_nats == pytest.approx(entropy, rel=1e-4)
    assert got.loss_minus_entropy_nats == pytest.approx(loss - entropy, abs=1e-4)


def test_no_more_than_asked_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1, 2, 3]] * 2 + [[1, 7, 7]] * 2
    batch, first = windows(rows, 2, range(4)), windows(rows[:2], 2, range(2))
    model = predicting(7, 20.0)
    assert measured("output_health", model, batch) != measured("output_health", model, first)
    monkeypatch.setattr(output_health, "MAX_TOKENS", 4)
    assert measured("output_health", model, batch) == measured("output_health", model, first)


@pytest.mark.parametrize(
    ("peak", "entropy", "said"),
    [
        (0.991, 5.0, "saturating"),
        (0.991, 0.1, "saturating"),
        (0.99, 1.99, "overconfident"),
        (0.99, 2.0, "healthy"),
        (0.1, 9.0, "healthy"),
    ],
)
def test_the_oldest_rule(peak: float, entropy: float, said: str) -> None:
    assert oldest_rule_verdict(peak, entropy) == said
