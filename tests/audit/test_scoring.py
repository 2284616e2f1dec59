"""The audit's check of losses: which scores pass, what is said of those that do not, and wrong use in one line."""

import functools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.audit import audit, borrowed, plan_search
from assay.audit.scoring.check import scoring
from assay.errors import RequestError
from assay.records import Finding
from plain_models import D, Mixing, Small, V, Wrapped, causal_attention, seeded


def finding(model: nn.Module, check: str, **options: Any) -> Finding:
    report = audit(model, **{"max_length": 40, **options})
    return next(found for found in report.findings if found.check == check)


def plain(outputs: int = V) -> nn.Module:
    return seeded(lambda: Small([Mixing(causal_attention)], outputs=outputs), 0)


def nats(logits: Tensor, ids: Tensor, shift: int = 1) -> Tensor:
    """[B, T - shift]"""
    count = ids.shape[1] - shift
    return F.cross_entropy(logits[:, :count].mT, ids[:, shift:], reduction="none")


def smoothed(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].mT, ids[:, 1:], label_smoothing=0.1)


def sharpened(model: nn.Module, ids: Tensor) -> Tensor:
    """A score that is not the cross-entropy of the logits but still that of a proper distribution."""
    return (3 * model(ids))[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"loss": lambda logits, ids: nats(logits, ids).mean()}, "pass", "cross-entropy of the next token"),
        ({"loss": lambda logits, ids: nats(logits, ids).sum()}, "pass", "cross-entropy of the next token"),
        ({"loss": lambda model, ids: nats(model(ids), ids)}, "pass", "cross-entropy of the next token"),
        ({"log_prob": lambda logits, ids: -nats(logits, ids)}, "pass", "cross-entropy of the next token"),
        ({"log_prob": sharpened}, "pass", "61 candidates sum to 1"),
        ({"loss": lambda logits, ids: nats(logits, ids, 0).mean()}, "fail", "has just read"),
        ({"loss": lambda logits, ids: nats(logits, ids, 2).mean()}, "fail", "after the next"),
        ({"loss": lambda logits, ids: nats(logits, ids).sum() / ids.numel()}, "fail", "sum to"),
        ({"loss": smoothed}, "fail", "sum to"),
        ({"log_prob": lambda logits, ids: nats(logits, ids)}, "fail", "sum to"),
    ],
)
def test_scores(options: dict[str, Any], status: str, words: str) -> None:
    found = finding(plain(), "scoring", **options)
    assert found.status == status
    assert words in found.explanation
    assert (found.where is None) == (status == "pass")


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda logits, ids: nats(logits, ids).clamp(max=10).mean(), "no token costs more than 10 nats"),
        (lambda logits, ids: nats(logits, ids).mean() / math.log(2), "in bits"),
        (lambda logits, ids: nats(logits, ids).sum() / ids.numel(), "divides the nats of 30 tokens by 32"),
        (lambda logits, ids: nats(logits, ids).masked_fill(ids[:, 1:] == 5, 0.0), "id 5 counts nothing"),
        (lambda logits, ids: nats(logits, ids)[:, :9].mean(), "sum to"),
    ],
)
def test_what_is_wrong_with_a_score_is_said(loss: Any, words: str) -> None:
    assert words in finding(plain(), "scoring", loss=loss).explanation


def test_a_score_of_a_large_vocabulary_is_continued_from_a_sample() -> None:
    model = seeded(lambda: nn.Sequential(nn.Embedding(5000, D), nn.Linear(D, 5000)), 0)
    with borrowed(model, longest=40) as subject:
        search = plan_search(subject.longest, cost=1, thorough=False, seed=0)
        for times, status in ((1.0, "pass"), (1.01, "fail")):
            loss = functools.partial(lambda times, logits, ids: times * nats(logits / 2, ids).mean(), times)
            found = scoring(subject, search, lambda logits, ids, loss=loss: loss(logits, ids))
            assert found.status == status
            assert "its 5000 candidates sum to" in found.explanation


def test_a_loss_of_the_wrong_kind_of_logits_is_not_mistaken() -> None:
    """Log-probabilities as logits; a first parameter of any name; a plain number; a head of zeros."""
    model = Wrapped(plain(), lambda logits: logits.log_softmax(-1))

    def picked(output: Tensor, tokens: Tensor) -> float:
        return -output[:, :-1].gather(-1, tokens[:, 1:, None]).mean().item()

    assert finding(model, "scoring", loss=picked).status == "pass"
    zeros = seeded(lambda: Small([Mixing(causal_attention)]), 0)
    nn.init.zeros_(zeros.get_submodule("head").weight)
    unshifted = finding(zeros, "scoring", loss=lambda logits, ids: nats(logits, ids, 0).mean())
    assert (unshifted.status, "just read" in unshifted.explanation) == ("fail", True)


def test_nothing_is_scored_where_logits_are_not_numbers() -> None:
    model = plain()
    nn.init.constant_(model.get_submodule("head").weight, float("nan"))
    found = finding(model, "scoring", loss=lambda logits, ids: nats(logits, ids).mean())
    assert (found.status, "NaN" in found.explanation) == ("fail", True)
    assert finding(model, "scoring").status == "warn"


class Padding(Small):
    """Declares an id as padding, and a loss that leaves it out."""

    def __init__(self, eos: int) -> None:
        super().__init__([Mixing(causal_attention)])
        self.config = SimpleNamespace(pad_token_id=2, eos_token_id=eos)

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
        logits = super().forward(ids)
        loss = None if labels is None else nats(logits, labels)[labels[:, 1:] != 2].mean()
        return SimpleNamespace(logits=logits, loss=loss)


@pytest.mark.parametrize(("eos", "status"), [(1, "warn"), (2, "fail")])
def test_an_id_that_is_padding_alone_may_be_left_out(eos: int, status: str) -> None:
    found = finding(seeded(lambda: Padding(eos), 0), "scoring")
    assert (found.status, "id 2" in found.explanation) == (status, True)


@pytest.mark.slow
def test_mass_on_padded_ids() -> None:
    padded = finding(plain(70), "scoring", vocab_size=V, loss=lambda logits, ids: nats(logits, ids).mean())
    assert padded.status == "fail"
    assert padded.measured == pytest.approx(9 / 70, rel=0.5)
    cut = finding(plain(70), "scoring", vocab_size=V, loss=lambda logits, ids: nats(logits[..., :V], ids).mean())
    assert cut.status == "pass"
    assert finding(plain(70), "scoring", vocab_size=V).status == "warn"
    assert finding(plain(), "scoring").status == "skip"


def boolean(*_: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": 3}, "loss: '3' given; a callable"),
        ({"loss": lambda logits, ids, third: logits + ids + third}, "loss: takes 3 arguments"),
        ({"loss": lambda *_: None}, "loss: gave a NoneType"),
        ({"loss": lambda *_: {"loss": torch.zeros(())}}, "loss: gave a dict"),
        ({"loss": lambda _, ids: ids.sum()}, "loss: gave int64 []"),
        ({"loss": boolean}, "loss: gave a bool"),
        ({"log_prob": lambda _, ids: [0.0] * len(ids)}, "log_prob: gave a list"),
        ({"log_prob": lambda _, ids: 1 / (len(ids) - len(ids))}, "log_prob: raised ZeroDivisionError"),
    ],
)
def test_wrong_scores_are_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        audit(nn.Embedding(9, 9), max_length=20, **options)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
