"""Likelihood by hand and by brute force: what is summed, divided, split and left out."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from assay.evaluation.measurements.likelihood import summarise
from assay.targets import IGNORED
from evaluation.small import measured, tiny, windows


def test_sums_by_hand() -> None:
    """Two windows of document 0, one of document 5; 2 bytes a token, and an EOS in the last that counts none."""
    nats = np.array([[1.0, 2.0], [3.0, 0.0], [4.0, 6.0]])
    batch = windows([[7, 8, 9], [7, 8], [7, 7, 7]], 2, [0, 0, 5], size=2)
    batch.bytes[2] -= 2
    got = summarise(nats, batch, invertible=True)
    assert got.tokens == 5
    assert got.nats_per_token == pytest.approx(16 / 5)
    assert got.perplexity == pytest.approx(math.exp(16 / 5))
    assert got.bytes == 4 + 2 + 2
    assert got.bits_per_byte == pytest.approx(16 / math.log(2) / 8)
    assert got.document_nats == [6.0, 10.0]
    assert got.document_tokens == [3, 2]
    assert got.document_bytes == [6, 2]
    assert got.nats_by_position == [pytest.approx(8 / 3), pytest.approx(8 / 2)]
    assert got.position_edges == [0, 1, 2]


def test_no_bits_per_byte_without_inversion() -> None:
    got = summarise(np.ones((1, 2)), windows([[1, 2, 3]], 2, [0]), invertible=False)
    assert got.bits_per_byte is None
    assert got.bytes is None
    assert got.nats_per_token == 1.0


@pytest.mark.parametrize(("context", "stretches"), [(5, 5), (16, 16), (40, 16)])
def test_stretches_cover_the_context_and_close(context: int, stretches: int) -> None:
    """Equally long up to rounding; weighted by their tokens they give the mean again."""
    draw = np.random.default_rng(context)
    rows = [list(draw.integers(0, 9, length)) for length in (context + 1, context + 1, 3)]
    batch = windows(rows, context, [0, 1, 2])
    scored = batch.targets != IGNORED
    nats = np.where(scored, draw.random(scored.shape), 0.0)
    got = summarise(nats, batch, True)
    edges = got.position_edges
    assert (edges[0], edges[-1]) == (0, context)
    lengths = np.diff(edges)
    assert len(lengths) == len(got.nats_by_position) == stretches
    assert lengths.max() - lengths.min() <= 1
    counts = [scored[:, a:b].sum() for a, b in itertools.pairwise(edges)]
    assert np.average(got.nats_by_position, weights=counts) == pytest.approx(got.nats_per_token)
    first = slice(edges[0], edges[1])
    assert got.nats_by_position[0] == pytest.approx(nats[:, first].sum() / scored[:, first].sum())


def test_stretches_end_where_the_longest_window_does() -> None:
    got = summarise(np.ones((2, 100)), windows([[1, 2, 3, 4], [1, 2]], 100, [0, 1]), True)
    assert got.position_edges == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["gpt1", "mamba2"])
def test_a_model_is_scored_as_one_window_at_a_time(name: str) -> None:
    """Whatever the batching and the padding, each window scores as it does alone, from a fresh state."""
    draw = np.random.default_rng(0)
    rows = [list(draw.integers(0, 61, length)) for length in (9, 2, 6, 9, 4)]
    model = tiny(name)
    model.train()
    got = measured("likelihood", model, windows(rows, 8, [0, 0, 1, 2, 3]))
    assert model.training
    total, by_document = 0.0, dict.fromkeys(range(4), 0.0)
    with torch.no_grad():
        for row, document in zip(rows, (0, 0, 1, 2, 3), strict=True):
            nats = F.cross_entropy(model(torch.tensor([row[:-1]]))[0], torch.tensor(row[1:]), reduction="sum").item()
            total += nats
            by_document[document] += nats
    assert got.tokens == sum(len(row) - 1 for row in rows)
    assert got.nats_per_token == pytest.approx(total / got.tokens, rel=1e-5)
    assert got.document_nats == pytest.approx(list(by_document.values()), rel=1e-5)
    assert sum(got.document_nats) == pytest.approx(got.nats_per_token * got.tokens)
    assert sum(got.document_tokens) == got.tokens
