"""How many directions a matrix uses: its effective rank, and that of random numbers of the same shape."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from assay.seeding import derive

DRAWS = 16
"""Random matrices that are averaged."""


def effective_rank(matrices: Float[Tensor, "*B K V"]) -> Float[Tensor, "*B"]:
    """exp of the entropy of singular values over their sum (Roy and Vetterli 2007); NaN for zeros and infinities."""
    finite = matrices.isfinite().all(-1).all(-1)
    values = torch.linalg.svdvals(matrices.double().nan_to_num(0.0, 0.0, 0.0))
    shares = values / values.sum(-1, keepdim=True)
    rank: Tensor = torch.special.entr(shares).sum(-1).exp()
    return torch.where(finite, rank, torch.nan)


@cache
def random_rank(rows: int, columns: int) -> float:
    """The mean effective rank of matrices of independent normal numbers."""
    generator = torch.Generator().manual_seed(derive(0, "random_rank", rows))
    drawn = torch.randn(DRAWS, rows, columns, generator=generator, dtype=torch.float64)
    return float(effective_rank(drawn).mean())
