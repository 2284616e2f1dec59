"""Honest likelihood: as reported on causal models, by brute force on a leaking one, and what its sample stands for."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from assay.data.scoring import ScoringWindows
from assay.errors import RequestError
from assay.evaluation.measurements.honest_likelihood import honest_likelihood
from assay.model.architecture import ARCHITECTURES
from assay.model.lm import LanguageModel
from assay.targets import IGNORED
from evaluation.small import PLAN, measured, tiny, windows

CAUSAL = ["gpt1", "mamba2", "rwkv6", "groundthink", "gated-delta-net", "sliding-window"]


def drawn_windows(lengths: list[int], documents: list[int], context: int = 12, vocab_size: int = 61) -> ScoringWindows:
    draw = np.random.default_rng(0)
    return windows([draw.integers(0, vocab_size, length).tolist() for length in lengths], context, documents)


MANY = drawn_windows([5] * 24, list(range(24)))
BATCH = drawn_windows([13, 13, 9, 6, 2, 13], [0, 0, 1, 2, 3, 4])


def prefix_nats(model: LanguageModel, batch: ScoringWindows) -> dict[tuple[int, int], float]:
    """Nats of each target from a forward pass over its prefix and nothing else, as the definition says."""
    model.eval()
    nats = {}
    with torch.no_grad():
        for row, position in zip(*np.nonzero(batch.targets != IGNORED), strict=True):
            logits = model(torch.from_numpy(batch.inputs[row : row + 1, : position + 1]))[:, -1]
            target = torch.from_numpy(batch.targets[row, position : position + 1])
            nats[int(row), int(position)] = F.cross_entropy(logits, target).item()
    return nats


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_model_is_as_good_as_reported(name: str) -> None:
    model = tiny(name)
    model.train()
    got = honest_likelihood(model, MANY, PLAN, targets=90, seed=1)
    assert model.training
    assert abs(got.targets - 90) <= 8
    assert abs(got.difference) < 1e-5
    assert got.low is not None
    assert got.high is not None
    assert -1e-5 < got.low <= got.high < 1e-5
    assert got.honest_perplexity == pytest.approx(math.exp(got.honest_nats_per_token))


def test_the_replica_of_document_001_differs_and_is_scored_as_the_definition_says() -> None:
    """All targets are asked for, so that brute force over every prefix must give the honest number."""
    model = tiny("groundthink-v7", heads="tied")
    got = honest_likelihood(model, BATCH, PLAN, targets=10_000)
    brute = prefix_nats(model, BATCH)
    reported = measured("likelihood", model, BATCH)
    assert got.targets == got.all_targets == len(brute) == reported.tokens
    assert got.honest_nats_per_token == pytest.approx(np.mean(list(brute.values())), abs=1e-6)
    assert got.reported_nats_per_token == pytest.approx(reported.nats_per_token, abs=1e-12)
    assert got.all_reported_nats_per_token == pytest.approx(reported.nats_per_token, abs=1e-12)
    assert abs(got.difference) > 1e-3
    assert ARCHITECTURES.get("groundthink-v7").sound_twin == "groundthink"


class Oracle(LanguageModel):
    """Puts 30 on the next token where the call holds it, on token 0 else: the largest leak that there can be."""

    def hidden(self, ids, state=None):  # type: ignore[no-untyped-def]
        following = F.pad(ids[:, 1:], (0, 1))
        return 30.0 * F.one_hot(following, 61).float(), None


def oracle() -> Oracle:
    gpt = tiny("gpt1")
    model = Oracle(gpt.embedding, [], gpt.norm)
    model.embedding.tokens = torch.nn.Parameter(torch.eye(61))
    return model


def test_a_perfect_leak_is_worth_nothing_from_the_prefix() -> None:
    """Reported: certain of every token but the last of a window. Honest: certain that each is token 0."""
    batch = drawn_windows([13] * 20, list(range(20)))
    batch.inputs[batch.inputs == 0] = 1
    batch.targets[batch.targets == 0] = 1
    batch.inputs[:, 1:] = batch.targets[:, :-1]
    got = honest_likelihood(oracle(), batch, PLAN, targets=1000)
    assert got.honest_nats_per_token == pytest.approx(30.0, abs=1e-4)
    assert got.reported_nats_per_token == pytest.approx(30.0 / 12, abs=1e-4)
    assert (got.low, got.high) == pytest.approx((30 - 30 / 12,) * 2, abs=1e-4)


def test_a_sample_stands_for_the_whole() -> None:
    """Over many seeds the mean of the sampled score is that of all targets, and every seed gives another sample."""
    batch = drawn_windows([9, 9, 9, 5, 9, 9, 4, 9, 9, 9], list(range(10)), context=8)
    samples = [honest_likelihood(oracle(), batch, PLAN, targets=20, seed=seed) for seed in range(30)]
    weights = np.array([sample.targets for sample in samples])
    assert abs(weights.mean() - 20) < 4
    totals = weights * np.array([sample.reported_nats_per_token for sample in samples])
    expected = weights.mean() * samples[0].all_reported_nats_per_token
    assert totals.std() > 0
    assert abs(totals.mean() - expected) < 4 * totals.std(ddof=1) / math.sqrt(len(totals))


def test_the_same_seed_gives_the_same_sample() -> None:
    first, again = (honest_likelihood(tiny(), BATCH, PLAN, targets=20, seed=5) for _ in range(2))
    assert first == again


def test_clusters_are_documents_or_else_windows() -> None:
    of_one = drawn_windows([13] * 20, [7] * 20)
    got = honest_likelihood(tiny("groundthink-v7"), of_one, PLAN, targets=1000)
    assert got.clusters == 20
    assert got.low is not None
    few = honest_likelihood(tiny("groundthink-v7"), drawn_windows([13, 13, 13], [7, 7, 7]), PLAN, targets=1000)
    assert (few.clusters, few.low, few.high) == (3, None, None), "no interval over so few"
    assert honest_likelihood(tiny(), BATCH, PLAN, targets=1000).clusters == 5
    alone = honest_likelihood(tiny(), drawn_windows([13], [0]), PLAN, targets=5)
    assert (alone.clusters, alone.low, alone.high) == (1, None, None)


def test_as_a_measurement_it_shares_the_pass_of_the_likelihood() -> None:
    assert measured("honest_likelihood", tiny(), BATCH) == honest_likelihood(tiny(), BATCH, PLAN)


def test_no_targets_is_a_wrong_request() -> None:
    with pytest.raises(RequestError, match="at least 1"):
        honest_likelihood(tiny(), BATCH, PLAN, targets=0)
