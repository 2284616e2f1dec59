"""Running a model in float64 throughout, even where its code casts to or creates tensors of a narrower type.

Many models compute norms, softmax or states in float32 whatever their weights are. Their rounding would hide every
leak below 1e-7, and make sound models look leaky where two runs take different kernels. A torch function mode sees
each call of torch and replaces the narrow types that it asks for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

WIDE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}
_CASTS = {Tensor.float, Tensor.half, Tensor.bfloat16}
_BIT_CASTS = {Tensor.view, Tensor.view_as}


class Widened(TorchFunctionMode):
    """Inside the block, calls of torch that ask for a floating type narrower than float64 get float64.

    `narrow_seen` tells whether some result was narrower all the same, so that the model rounds as that type does.
    `calls` counts the calls of torch, `elements` those of the tensors that they return.
    """

    def __init__(self) -> None:
        super().__init__()
        self.narrow_seen = False
        self.calls = 0
        self.elements = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls += 1
        if not kwargs and len(args) == 1 and func not in _CASTS:  # mostly attributes: no argument can name a type
            return self._seen(func(args[0]))
        kwargs = kwargs or {}
        if func in _CASTS:
            return args[0].double()
        if func not in _BIT_CASTS:
            if torch.dtype in map(type, args):
                args = tuple(WIDE.get(value, value) if type(value) is torch.dtype else value for value in args)
            if torch.dtype in map(type, kwargs.values()):
                kwargs = {k: WIDE.get(v, v) if type(v) is torch.dtype else v for k, v in kwargs.items()}
        result = _grouped_product(*args, **kwargs) if func is torch._grouped_mm else func(*args, **kwargs)
        return self._seen(result)

    def _seen(self, result: Any) -> Any:
        if isinstance(result, Tensor):
            self.elements += result.numel()
            self.narrow_seen = self.narrow_seen or result.dtype in WIDE
        elif isinstance(result, tuple | list):
            self.narrow_seen |= any(isinstance(part, Tensor) and part.dtype in WIDE for part in result)
        return result


@contextmanager
def in_float64() -> Iterator[Widened]:
    """Everything torch computes inside the block is in float64; the default type is put back afterwards."""
    with float64_by_default(), Widened() as mode:
        yield mode


@contextmanager
def float64_by_default() -> Iterator[None]:
    """Inside the block torch creates floating tensors in float64 where the code names no type.

    That is enough for a model that never names one, and quicker than `in_float64`, which looks at every call.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def wide(tensor: Tensor) -> Tensor:
    """`tensor` in float64 or complex128 where it is of a narrower floating type."""
    return tensor.to(WIDE[tensor.dtype]) if tensor.dtype in WIDE else tensor


def narrowest_type(model: nn.Module) -> torch.dtype:
    """The floating type of the parameters with the fewest digits; torch's default where there are none."""
    types = {parameter.dtype for parameter in model.parameters() if parameter.dtype.is_floating_point}
    return max(types, key=lambda dtype: torch.finfo(dtype).eps, default=torch.get_default_dtype())


def _grouped_product(
    a: Tensor, b: Tensor, *, offs: Tensor | None = None, bias: Any = None, out_dtype: Any = None
) -> Tensor:
    """torch's grouped_mm, which it has not in float64: rows [N, K] sorted by group, and one matrix [K, M] per group."""
    if offs is None or a.ndim != 2 or b.ndim != 3 or bias is not None:
        return torch._grouped_mm(a, b, offs=offs, bias=bias, out_dtype=out_dtype)
    ends = offs.tolist()
    products = [a[start:end] @ b[group] for group, (start, end) in enumerate(zip([0, *ends], ends, strict=False))]
    return torch.cat([*products, a.new_zeros(a.shape[0] - ends[-1], b.shape[-1])])
