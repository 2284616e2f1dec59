"""The plan of an audit: it follows from the model's size; batches tell all rows apart; cuts end usual chunks."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from assay.audit import plan_search
from assay.audit.checks.rows import halves
from assay.audit.probing.search import LARGE, MODULE_COST, cost_of, lighter
from assay.audit.subject.limits import integer
from assay.errors import RequestError


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


@pytest.mark.parametrize("chunk", [16, 32, 40, 48, 50, 64, 75, 80, 96, 100, 120, 128, 150, 192, 256])
def test_the_few_places_end_chunks_of_usual_lengths(chunk: int) -> None:
    """A chunk ends at a cut, or at the end of a prefix: both show a chunk's last token that reads the next one."""
    large = plan_search(320, LARGE, False, 0)
    assert any((end + 1) % chunk == 0 for end in (*large.cuts, *(length - 1 for length in large.lengths)))


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
