"""Products of one vector with matrices in a compiled step: sums over matrices that are copied in the order of reading.

A call of a library for each product takes longer than the product, and so does a sum along every row of a matrix,
whose lanes must be added at its end. In a packed matrix LANES rows stand side by side: the sums of all of them grow
together.

Shapes: K entries of the vector, N rows of the matrix.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.nn import functional as F

from assay.ops.stored import stored

LANES = 16
"""Rows side by side: what a register of 512 bits holds in float32."""

aten = torch.ops.aten


@torch.library.custom_op("assay::row_product", mutates_args=())
def _row_product(x: Tensor, rows: Tensor) -> Tensor:
    return x @ rows.t()


@_row_product.register_fake
def _(x: Tensor, rows: Tensor) -> Tensor:
    return x.new_empty(1, len(rows))


def _mm(x: Tensor, matrix: Tensor) -> Any:
    """[1, K] times [K, N]; of more rows the product stays one."""
    return torch.ops.assay.row_product(x, matrix.t()) if len(x) == 1 else NotImplemented


def _addmm(bias: Tensor, x: Tensor, matrix: Tensor, beta: float = 1, alpha: float = 1) -> Any:
    return _mm(x, matrix) + bias if len(x) == beta == alpha == 1 else NotImplemented


def _bmm(x: Tensor, y: Tensor) -> Any:
    """[B, M, K] times [B, K, N], where M or N is 1; what is read more than once is stored."""
    if x.shape[1] != 1 and y.shape[2] != 1:
        return NotImplemented
    x, y = stored(x) if y.shape[2] > 1 else x, stored(y) if x.shape[1] > 1 else y
    return (x[:, :, None] * y.mT[:, None]).sum(-1)


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.bmm.default: _bmm,
}
"""Products with a vector, for torch's compiler; `written_out` is to follow."""


class Source(NamedTuple):
    """Where a matrix comes from: the place of a graph's input, and whether its columns are the rows."""

    place: int
    columns: bool

    def rows(self, inputs: Sequence[Tensor]) -> Float[Tensor, "N K"]:
        """The matrix itself."""
        return inputs[self.place].t() if self.columns else inputs[self.place]


def packed(matrix: Float[Tensor, "N K"]) -> Float[Tensor, "M K L"]:
    """The rows in groups of LANES, entry by entry; rows of zeros at the end."""
    rows = F.pad(matrix, (0, 0, 0, -len(matrix) % LANES))
    groups: Tensor = rows.unflatten(0, (-1, LANES))
    return groups.transpose(1, 2).contiguous()


def written_out(graph: GraphModule, inputs: list[Any]) -> list[Source]:
    """Write the products of the decomposed `graph` as sums, in place; the sources of the packed matrices they read.

    The graph gets an input for each of them, after those it has, and `inputs`, its examples, grow alike. Packed are
    matrices that are inputs and that the graph does not write; others are summed along their rows.
    """
    places = {node: place for place, node in enumerate(graph.graph.find_nodes(op="placeholder"))}
    changed = {node.args[0] for node in graph.graph.find_nodes(op="call_function", target=aten.copy_.default)}
    found: dict[Source, Node] = {}
    last = list(places)[-1]
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.assay.row_product.default):
        x, rows = node.args
        source = _source(rows, {one: place for one, place in places.items() if one not in changed})
        if source is None or len(_value(rows)) < LANES:
            new = _sum_of_rows(graph.graph, node, x, rows)
        else:
            if source not in found:
                value = _value(rows)
                with graph.graph.inserting_after(last):
                    last = found[source] = graph.graph.placeholder(f"packed_{len(found)}")
                last.meta["val"] = value.new_empty(-(-len(value) // LANES), value.shape[1], LANES)
                inputs.append(last.meta["val"])
            new = _sum_of_packed(graph.graph, node, x, found[source], len(_value(rows)))
        node.replace_all_uses_with(new)
        graph.graph.erase_node(node)
    graph.graph.lint()
    graph.recompile()
    return list(found)


def _value(node: Any) -> Tensor:
    value: Tensor = node.meta["val"]
    return value


def _source(node: Any, places: dict[Node, int]) -> Source | None:
    """The input that `node` is, transposed or not; None where it is anything else."""
    columns = False
    while node.op == "call_function" and node.target in (aten.t.default, aten.permute.default, aten.transpose.int):
        if node.target == aten.permute.default and list(node.args[1]) != [1, 0]:
            return None
        node, columns = node.args[0], not columns
    return Source(places[node], columns) if node in places and _value(node).ndim == 2 else None


class _Writer:
    """Adds calls before a node, with the shapes of their results."""

    def __init__(self, graph: Graph, before: Node) -> None:
        self._graph, self._before = graph, before

    def __call__(self, target: Callable[..., Any], *args: Any) -> Node:
        with self._graph.inserting_before(self._before):
            node = self._graph.call_function(target, args)
        values = [_value(one) if isinstance(one, Node) else one for one in args]
        with next(one for one in values if isinstance(one, Tensor)).fake_mode:  # type: ignore[attr-defined]
            node.meta["val"] = target(*values)
        return node


def _sum_of_rows(graph: Graph, before: Node, x: Any, rows: Any) -> Node:
    write = _Writer(graph, before)
    products = write(aten.mul.Tensor, rows, write(torch.ops.assay.stored.default, x))
    return write(aten.unsqueeze.default, write(aten.sum.dim_IntList, products, [-1]), 0)


def _sum_of_packed(graph: Graph, before: Node, x: Any, matrix: Node, rows: int) -> Node:
    write = _Writer(graph, before)
    column = write(aten.view.default, write(torch.ops.assay.stored.default, x), [-1, 1])
    sums = write(aten.sum.dim_IntList, write(aten.mul.Tensor, matrix, column), [1])
    return write(aten.slice.Tensor, write(aten.view.default, sums, [1, -1]), 1, 0, rows)
