"""Union-find over texts: the connected components of near-duplicate pairs."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Components:
    """Components of `n` nodes; each is named by its smallest node."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, node: int) -> int:
        parent = self._parent
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(self, first: Iterable[int], second: Iterable[int]) -> None:
        """Join the components of each pair."""
        for a, b in zip(first, second, strict=True):
            low, high = sorted((self.root(a), self.root(b)))
            self._parent[high] = low

    def join_equal(self, keys: NDArray[np.uint64], nodes: Ints) -> None:
        """Join nodes that have equal keys."""
        order = np.argsort(keys, kind="stable")
        keys, nodes = keys[order], nodes[order]
        same = keys[1:] == keys[:-1]
        self.join(nodes[:-1][same].tolist(), nodes[1:][same].tolist())

    def labels(self) -> Ints:
        """For each node, the smallest node of its component."""
        return np.array([self.root(node) for node in range(len(self._parent))], dtype=np.int64)
