"""Products of a vector with matrices, written as sums over packed copies: the same numbers, and what is packed."""

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from assay.step_products import DECOMPOSITIONS, LANES, Source, packed, written_out


def test_packed_rows_stand_side_by_side() -> None:
    matrix = torch.arange(3.0 * (LANES + 2)).view(LANES + 2, 3)
    lanes = packed(matrix)
    assert lanes.shape == (2, 3, LANES)
    assert lanes.is_contiguous()
    assert torch.equal(lanes.transpose(1, 2).flatten(0, 1)[: LANES + 2], matrix)
    assert not lanes[1, :, 2:].any()


def test_sums_over_packed_matrices_are_the_products() -> None:
    """Rows and columns of inputs are packed, once each; small ones, those made or written in the graph are not."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def several(x: Tensor, rows: Tensor, bias: Tensor, columns: Tensor, few: Tensor, memory: Tensor) -> Tensor:
        y = F.linear(F.linear(x, rows, bias), rows.relu().T) @ columns  # rows.relu() is made here
        memory.copy_(memory * 2)
        seen = y[:, :8] @ memory.T
        return torch.cat([F.linear(x, rows), seen, F.linear(x, few), torch.bmm(seen[None], draw_of(seen))[0]], 1)

    def draw_of(seen: Tensor) -> Tensor:
        return (seen.T * seen)[None]

    given = draw(1, 8), draw(20, 8), draw(20), draw(8, 24), draw(3, 8), draw(30, 8)
    graph = make_fx(several, decomposition_table=DECOMPOSITIONS, tracing_mode="fake")(*given)
    assert "row_product" in graph.code
    inputs: list[Tensor] = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
    sources = written_out(graph, inputs)
    assert sorted(sources) == [Source(1, columns=False), Source(3, columns=True)]
    assert len(inputs) == len(given) + 2
    assert "row_product" not in graph.code
    copies = [packed(source.rows(given)) for source in sources]
    assert [list(x.shape) for x in inputs[len(given) :]] == [list(x.shape) for x in copies]
    expected = several(*(x.clone() for x in given))
    got = graph(*(x.clone() for x in given), *copies)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
