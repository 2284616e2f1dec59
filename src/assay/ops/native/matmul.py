"""Products of matrices in compiled graphs through native/matmul.cpp, in float32 on processors that torch's own
library does not use in full.

MKL, which torch multiplies with, takes the widest registers of Intel's processors alone; on others that have them,
oneDNN's kernels of small products make up to twice as many FLOPs a second (docs/performance.md). In bfloat16 torch
multiplies with oneDNN itself.
"""

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph

from assay.ops.native.build import NotBuiltError, library_of
from assay.ops.native.kernels import KERNELS
from assay.ops.native.processor import slow_products, types_here

SOURCE = "matmul"
SMALLEST = 16
"""Products with a side shorter than this stay torch's."""


def prepare_products() -> str | None:
    """Make `torch.ops.assay.matmul` where it pays, and check it; the reason where that fails."""
    if SOURCE in KERNELS.loaded or SOURCE in KERNELS.refused:
        return KERNELS.refused.get(SOURCE)
    if torch.float32 not in types_here() or not slow_products():
        return None
    try:
        torch.ops.load_library(library_of(SOURCE))
        torch.library.register_fake("assay::matmul", lambda a, b: a.new_empty(a.shape[0], b.shape[1]))
        _check()
    except (NotBuiltError, OSError) as error:
        KERNELS.refused[SOURCE] = str(error).splitlines()[0][:200]
        return KERNELS.refused[SOURCE]
    KERNELS.loaded.add(SOURCE)
    return None


def replaces_products() -> bool:
    """Whether `prepare_products` has made the op."""
    return SOURCE in KERNELS.loaded


def _check() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in ((37, 1100), (1100, 19)))
    for left in (a, a.t().contiguous().t()):
        for right in (b, b.t().contiguous().t()):
            found, expected = torch.ops.assay.matmul(left, right).double(), left.double() @ right.double()
            apart = float((found - expected).norm() / expected.norm())
            if not apart <= 1e-6:
                raise NotBuiltError(f"its check failed: a product is {apart:.1e} off")


def replace_products(graph: Graph) -> None:
    """Let the products of float32 matrices in the graph be `torch.ops.assay.matmul`, in place."""
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.mm.default):
        values = [one.meta["val"] for one in (*node.args, node)]
        if all(_large(value) for value in values):
            node.target = torch.ops.assay.matmul.default


def _large(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.float32 and x.device.type == "cpu" and min(x.shape) >= SMALLEST


def compiler_options() -> dict[str, Any] | None:
    """What torch.compile is to be told, so that products are replaced; None where they are not."""
    if not replaces_products():
        return None
    from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files  # takes a second to import

    class Products(CustomGraphPass):
        def __call__(self, graph: Graph) -> None:
            replace_products(graph)

        def uuid(self) -> Hashable:
            return get_hash_for_files((__file__,))

    return {"post_grad_custom_pre_pass": Products()}
