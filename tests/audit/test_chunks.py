"""Models that fill short rows up to a chunk: known as such, and given shorter chunks only where no logit changes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.audit import borrowed, plan_search
from assay.audit.checks.causality import causality
from assay.audit.probing.yardstick import yardstick
from plain_models import D, Small, V, seeded, small


class Chunks(nn.Module):
    """Sums over the past, chunk by chunk over a padded row; broken: a chunk's last token sees the next one."""

    def __init__(self, broken: bool, chunk_size: int = 128) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.chunk_size, self.broken = chunk_size, broken

    def forward(self, x: Tensor) -> Tensor:
        T, c = x.shape[1], self.chunk_size
        x = F.pad(self.value(x), (0, 0, 0, -T % c)).unflatten(1, (-1, c))
        mask = torch.ones(c, c).tril()[..., None] * torch.ones(4 * D)  # so large that most of the work is here
        inside = torch.einsum("tsw,bnsd->bntd", mask / (4 * D), x)
        before = F.pad(x.sum(2).cumsum(1), (0, 0, 1, 0))[:, :-1]
        y = (inside + before[:, :, None]).flatten(1, 2)
        if self.broken:
            later = F.pad(x.flatten(1, 2), (0, 0, 0, 1))[:, 1:]
            y = y + later * (torch.arange(y.shape[1]) % c == c - 1)[:, None]
        return y[:, :T] / 16


def model(broken: bool) -> Small:
    made = seeded(lambda: small(Chunks(broken)), 0)
    assert isinstance(made, Small)
    return made


@pytest.mark.parametrize("broken", [False, True])
def test_chunks_are_shortened_where_no_logit_changes(broken: bool) -> None:
    with borrowed(model(broken), longest=260, shorter=True) as subject:
        chunks = subject.model.get_submodule("blocks.1.mixer").chunk_size
        assert (chunks, len(subject.chunks)) == ((128, 0) if broken else (32, 1))


def test_others_keep_theirs() -> None:
    with borrowed(small(nn.Linear(D, D)), longest=100, shorter=True) as subject:
        assert subject.chunks == []


def test_few_rows_show_the_ends_of_chunks() -> None:
    with borrowed(model(True), V, longest=260, shorter=True) as subject:
        search = plan_search(subject.longest, 1, False, 0, pads=True)
        assert search.lean
        assert len(search.replaced) == 8
        finding = causality(subject, search, yardstick(subject, search))
    assert finding.status == "fail"
    assert finding.where is not None
    assert finding.where.startswith("blocks.1.mixer")
