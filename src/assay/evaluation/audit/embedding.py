"""Where ids become vectors: seen from outside, so that it can be differentiated or moved, whatever module does it.

Shapes: B batch, T tokens, D width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_LOOKUPS = {F.embedding: (0, 1), Tensor.__getitem__: (1, 0), torch.embedding: (1, 0)}
"""The places of the ids and of the table among the arguments."""


class AtEmbedding(TorchFunctionMode):
    """Inside the block every lookup of exactly `ids` [B, T] in a floating table goes through `change`.

    `change` gets the vectors as [B, T, D] and returns as many. `tables` collects the sizes of the tables.
    """

    def __init__(self, ids: Tensor, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._ids = ids
        self._change = change
        self.tables: list[int] = []

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
            vectors = self._change(result)
        elif key.shape == self._ids.T.shape and torch.equal(key, self._ids.T):
            vectors = self._change(result.transpose(0, 1)).transpose(0, 1)
        elif key.shape == (self._ids.numel(),) and torch.equal(key, self._ids.flatten()):
            vectors = self._change(result.unflatten(0, self._ids.shape)).flatten(0, 1)
        else:
            return result
        self.tables.append(table.shape[0])
        return vectors
