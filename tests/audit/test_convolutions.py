"""Convolutions over time of one filter a channel: the audit's quick form gives what torch's gives."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay.audit.subject.convolutions import QuickConvolutions, has_depthwise


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("taps", "pad", "apart"), [(1, 0, 1), (4, 3, 1), (3, 0, 2), (5, 4, 2), (20, 19, 1)])
def test_the_same_values_and_gradients(taps: int, pad: int, apart: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(taps + pad)
    layer = nn.Conv1d(6, 6, taps, padding=pad, dilation=apart, groups=6, bias=bias).double()
    x = torch.randn(2, 6, 30, dtype=torch.float64, generator=generator, requires_grad=True)
    given = layer(x)
    (gradient,) = torch.autograd.grad(given.square().sum(), x)
    with QuickConvolutions():
        found = layer(x)
    torch.testing.assert_close(found, given)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), x)[0], gradient)


def test_other_convolutions_stay_torchs_own() -> None:
    x = torch.randn(2, 6, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full, strided = torch.ones(4, 6, 3, dtype=torch.float64), torch.ones(6, 1, 3, dtype=torch.float64)
    given = F.conv1d(x, full), F.conv1d(x, strided, stride=2, groups=6), F.conv1d(x, strided, padding="same", groups=6)
    with QuickConvolutions():
        found = (
            F.conv1d(x, full),
            F.conv1d(x, strided, stride=2, groups=6),
            F.conv1d(x, strided, padding="same", groups=6),
        )
    assert all(torch.equal(one, other) for one, other in zip(found, given, strict=True))
    with pytest.raises(RuntimeError), QuickConvolutions():
        F.conv1d(x, torch.ones(6, 1, 40, dtype=torch.float64), groups=6)


def test_which_models_have_one() -> None:
    assert has_depthwise(nn.Sequential(nn.Conv1d(4, 4, 3, groups=4)))
    assert not has_depthwise(nn.Sequential(nn.Conv1d(4, 4, 3), nn.Linear(4, 4)))
