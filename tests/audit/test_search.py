"""The plan of an audit: it follows from the model's size; batches tell all rows apart; cuts end usual chunks."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.audit import borrowed, plan_search, yardstick
from assay.audit.checks.causality import by_replacement
from assay.audit.checks.rows import halves
from assay.audit.probing.ends import every_end, lengths_ended
from assay.audit.probing.search import LARGE, MODULE_COST, SOME_ENDS, cost_of, lighter
from assay.audit.subject.limits import integer
from assay.errors import RequestError
from assay.records import Finding
from plain_models import seeded

ADDED = 1000


@pytest.mark.parametrize("count", range(2, 10))
def test_of_any_two_rows_each_is_replaced_without_the_other(count: int) -> None:
    replaced = halves(count)
    for first, second in itertools.permutations(range(count), 2):
        assert any(first in rows and second not in rows for rows in replaced)


def test_cost_counts_depth() -> None:
    deep = nn.Sequential(*(nn.Linear(1, 1) for _ in range(10)))
    assert cost_of(deep) == 20 + 11 * MODULE_COST


def test_a_large_model_is_searched_at_fewer_places() -> None:
    small, large, thorough = (
        plan_search(320, cost, thorough, 0) for cost, thorough in ((LARGE - 1, False), (LARGE, False), (LARGE, True))
    )
    assert not small.brief
    assert large.brief
    assert not thorough.brief
    assert len(large.cuts) < len(small.cuts) < len(thorough.cuts)
    assert len(large.lengths) < len(small.lengths) / 4
    assert set(large.batches) < set(small.batches) == set(thorough.batches)


@pytest.mark.parametrize("longest", [2, 3, 16, 47, 320])
def test_every_position_of_half_a_row_ends_chunks_of_every_length(longest: int) -> None:
    tokens = [end + 1 for end in every_end(longest)]
    assert lengths_ended(tokens, longest) == list(range(1, longest))


@pytest.mark.parametrize("longest", [2, 3, 16, 47, 320])
def test_chunks_of_every_length_end_and_begin_at_a_replaced_token(longest: int) -> None:
    tokens = plan_search(longest, LARGE, False, 0).replaced
    assert lengths_ended(tokens, longest) == list(range(1, longest))
    begun = {length for token in tokens for length in range(1, longest) if (token - 1) % length == 0}
    assert begun >= set(range(1, longest - 1))
    assert all(0 < token < longest for token in tokens)


@pytest.mark.parametrize("cost", [5_000_000, 20_000_000])
def test_of_a_large_model_the_likeliest_chunks_come_first(cost: int) -> None:
    tokens = plan_search(320, cost, False, 0).replaced
    assert sum(token + 1 for token in tokens) * cost <= 1.1 * SOME_ENDS
    assert {16, 32, 64, 128} <= set(lengths_ended(tokens, 320))
    usual = {36, 40, 48, 50, 56, 72, 80, 96, 100, 112, 120, 144, 150, 160, 192, 200, 240, 256, 300}
    assert usual <= set(lengths_ended(tokens, 320)) or cost > 5_000_000


@pytest.mark.parametrize("longest", [1, 2, 3, 7, 16, 40, 129, 320])
@pytest.mark.parametrize("cost", [1, LARGE])
def test_every_place_lies_inside(longest: int, cost: int) -> None:
    for search in (plan_search(longest, cost, False, 0), lighter(plan_search(longest, cost, False, 0))):
        assert search.longest == longest
        assert max(search.middle, search.short, search.content) <= longest
        assert all(0 <= cut < longest - 1 for cut in (*search.cuts, *search.training_cuts, *search.gradient_cuts))
        assert all(0 < length < longest for length in search.lengths)
        assert bool(search.cuts) == (longest > 1)
        assert search.batches


@pytest.mark.parametrize("value", [3, np.int64(3), torch.tensor(3)])
def test_whole_numbers_of_every_kind(value: object) -> None:
    found = integer("n", value, 1)
    assert type(found) is int
    assert found == 3


@pytest.mark.parametrize("value", ["3", 3.0, True, None, torch.ones(2), np.float32(3)])
def test_what_is_none_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(RequestError, match=r"^n: .{1,70} given; a whole number, 1 or more, would do$"):
        integer("n", value, 1)


class AddedSeparator(nn.Module):
    """A mean of the past whose vocabulary has a separator behind the usual ids, and unused ids behind that.

    The sound one counts the separators so far; the broken one asks whether one comes anywhere in the row.
    """

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(ADDED + 64, 8), nn.Linear(8, ADDED + 64)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        separators = ids == ADDED
        seen = separators.any(1, keepdim=True) if self.broken else separators.cumsum(1) > 0
        x = self.embedding(ids).cumsum(1) / torch.arange(1, ids.shape[1] + 1)[:, None]
        logits: Tensor = self.head(x * torch.where(seen, 1.5, 1.0)[..., None])
        return logits


@pytest.mark.parametrize("cost", [0, 5_000_000])
def test_a_separator_added_behind_the_usual_ids_is_found_undeclared(cost: int) -> None:
    def found(broken: bool) -> Finding:
        with borrowed(seeded(lambda: AddedSeparator(broken), 0), longest=320 if cost else 48) as subject:
            search = plan_search(subject.longest, cost, False, 0)
            return by_replacement(subject, search, yardstick(subject, search))

    assert found(broken=False).status == "pass"
    assert found(broken=True).status == "fail"
