"""Which ops run in C++ here, after each has been checked against its Python form; calls of their functions.

A function in C++ is `void name(void* const* tensors, const int64_t* sizes)`; `run` gives it both.
"""

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from assay.ops.native.build import NotBuiltError, library_of

NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
"""How the functions of a type are called."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""How far the check lets the two forms be apart, of the norm of the Python form: a wrong kernel is off by far more, and
roundings by a tenth of it or less."""

Pair = Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]


@dataclass(frozen=True)
class Native:
    """The C++ form of a function with its gradient (assay.ops.opaque.Differentiable), called as the Python form is.

    `forward`, `gradient` and `keeps` are as there. `source` names the file in this folder, `ops` are those that call
    it. `example` gives operands and option of a type for the check; `takes` says whether it can do a call.
    """

    source: str
    ops: tuple[str, ...]
    forward: Pair
    gradient: Callable[..., tuple[Tensor, ...]]
    example: Callable[[torch.dtype], tuple[tuple[Tensor, ...], tuple[object, ...]]]
    takes: Callable[..., bool] = lambda *_: True
    keeps: tuple[int, ...] = ()


@dataclass
class Kernels:
    """The state of the process: what was loaded, what passed its check, and why the others did not."""

    libraries: dict[str, ctypes.CDLL] = field(default_factory=dict)
    ready: set[tuple[str, torch.dtype]] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)
    """Libraries that brought ops of torch's own kind."""
    on: bool = False
    """Whether calls take what is ready: inside `native_ops`."""


KERNELS = Kernels()


@contextmanager
def native_ops(on: bool) -> Iterator[None]:
    """Ops that are called inside run in C++ where a form is ready, in a graph that is compiled inside for good."""
    before = KERNELS.on
    KERNELS.on = on
    try:
        yield
    finally:
        KERNELS.on = before


def shapes_only(x: Tensor) -> bool:
    """Whether a compiler asks with a tensor that holds no values: whatever they would be, the shapes are the same."""
    return isinstance(x, FakeTensor)


def run(source: str, function: str, tensors: Sequence[Tensor], sizes: Iterable[int]) -> None:
    """Call `function` of the library of `source`; where a compiler asks for shapes alone, nothing happens."""
    if shapes_only(tensors[0]):
        return
    numbers = list(sizes)
    places = (ctypes.c_void_p * len(tensors))(*[x.data_ptr() for x in tensors])
    getattr(KERNELS.libraries[source], function)(places, (ctypes.c_int64 * len(numbers))(*numbers))


def load(source: str) -> None:
    """Load the library of `source`, building it first where it is not there; a NotBuiltError where that fails."""
    if source not in KERNELS.libraries:
        try:
            KERNELS.libraries[source] = ctypes.CDLL(str(library_of(source)))
        except OSError as error:
            raise NotBuiltError(str(error).splitlines()[0][:200]) from None


def agrees(native: Native, forward: Pair, gradient: Callable[..., tuple[Tensor, ...]], keeps: Sequence[int],
           dtype: torch.dtype) -> str | None:  # fmt: skip
    """None where outputs and gradients of the example are those of the Python form; else which differs and by how
    much.
    """
    operands, option = native.example(dtype)
    expected, theirs = forward(*operands, *option)
    found, ours = native.forward(*operands, *option)
    slopes = tuple(torch.linspace(-1, 1, y.numel()).view(y.shape).to(y.dtype) for y in expected)
    sides = []
    for outputs, rest, kept, function in ((expected, theirs, keeps, gradient), (found, ours, native.keeps,
                                                                                native.gradient)):  # fmt: skip
        given = (*operands, *outputs)
        saved = (*(given[place] for place in kept), *rest)
        sides.append((*outputs, *function(tuple(x.clone() for x in slopes), saved, *option)))
    for place, (want, have) in enumerate(zip(*sides, strict=True)):
        apart = float((have.double() - want.double()).norm() / want.double().norm().clamp_min(1e-30))
        if not apart <= TOLERANCE[dtype]:
            return f"its check failed in {NAMES[dtype]}: result {place} is {apart:.1e} off"
    return None
