"""Access to the embedding vectors of a model's ids, to differentiate or change them, whichever module looks them up.

Shapes: B batch, T tokens, D width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_LOOKUPS = {F.embedding: (0, 1), Tensor.__getitem__: (1, 0), torch.embedding: (1, 0)}
"""For each lookup function, the indices of (ids, table) among its arguments."""


class AtEmbedding(TorchFunctionMode):
    """Inside the block every lookup of exactly `ids` [B, T] in a floating table goes through `change`.

    `change` gets the vectors as [B, T, D] and returns as many.
    """

    def __init__(self, ids: Tensor, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._ids = ids
        self._change = change

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func not in _LOOKUPS or len(args) < 2:
            return result
        key, table = (args[place] for place in _LOOKUPS[func])
        if not isinstance(key, Tensor) or key.dtype not in (torch.int64, torch.int32):
            return result
        if not isinstance(table, Tensor) or not table.is_floating_point() or table.ndim != 2:
            return result
        if key.shape == self._ids.shape and torch.equal(key, self._ids):
            return self._change(result)
        if key.shape == self._ids.T.shape and torch.equal(key, self._ids.T):
            return self._change(result.transpose(0, 1)).transpose(0, 1)
        if key.shape == (self._ids.numel(),) and torch.equal(key, self._ids.flatten()):
            return self._change(result.unflatten(0, self._ids.shape)).flatten(0, 1)
        return result


class InBounds(TorchFunctionMode):
    """Inside the block a lookup past the end of a table raises IndexError before it is made.

    On a GPU the lookup itself would make every later CUDA call of the process fail.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _LOOKUPS and len(args) > 1:
            key, table = (args[place] for place in _LOOKUPS[func])
            whole = isinstance(key, Tensor) and key.dtype in (torch.int64, torch.int32) and key.numel() > 0
            if whole and isinstance(table, Tensor) and table.ndim and int(key.amax()) >= table.shape[0]:
                raise IndexError(f"{int(key.amax())} is past the end of a table of {table.shape[0]}")
        return func(*args, **(kwargs or {}))
