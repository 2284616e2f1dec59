"""The generators that a model may draw from: seeded before each run, and put back as they were afterwards.

Strangers' models draw from the global generators of torch, NumPy and Python. This is the one place that touches them,
and only between a copy and its return; NumPy and `random` are reached through sys.modules, where they are loaded.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

MT19937_BYTES = 4 * 624 + 4
"""The state of NumPy's usual generator: its words, and the place in them."""


@contextmanager
def generators_put_back() -> Iterator[None]:
    """Whatever is drawn or seeded inside, the global generators of torch, CUDA, NumPy and Python are as before."""
    numpy, python = _numpy(), _python()
    numpy_state, python_state = numpy and numpy.get_state(), python and python.getstate()
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_available() and torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(cuda)):
        try:
            yield
        finally:
            if numpy is not None:
                numpy.set_state(numpy_state)
            if python is not None:
                python.setstate(python_state)


def seed_generators(seed: int) -> None:
    """Seed every global generator, so that two runs draw the same numbers. Use inside `generators_put_back`."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for generator in torch.cuda.default_generators:
            generator.manual_seed(seed)
    numpy, python = _numpy(), _python()
    if numpy is not None:
        numpy.seed(seed % 2**32)
    if python is not None:
        python.seed(seed)


def drawn_so_far() -> tuple[object, ...]:
    """A fingerprint of torch's and NumPy's global generators: it differs once anything has been drawn.

    Python's is left out: type checkers draw from it to pick what they check.
    """
    numpy = _numpy()
    states: list[object] = [torch.default_generator.get_state().numpy().tobytes()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states += [generator.get_state().numpy().tobytes() for generator in torch.cuda.default_generators]
    if numpy is not None:
        states.append(_fingerprint(numpy))
    return tuple(states)


def _fingerprint(numpy: Any) -> object:
    """NumPy's global state: its memory as it stands, as `get_state` takes longer than a small model's whole call."""
    source: Any = numpy.get_bit_generator() if hasattr(numpy, "get_bit_generator") else None
    if type(source).__name__ == "MT19937":
        return ctypes.string_at(source.ctypes.state_address, MT19937_BYTES)
    name, keys, place, *rest = numpy.get_state()
    return (name, keys.tobytes(), place, *rest)


def is_generator(value: object) -> bool:
    """Whether a model's own `value` is something to draw from: torch's, NumPy's or Python's."""
    numpy, python = _numpy(), _python()
    kinds = [
        torch.Generator,
        *([numpy.Generator, numpy.RandomState] if numpy else []),
        *([python.Random] if python else []),
    ]
    return isinstance(value, tuple(kinds))


def reseed(generator: Any, seed: int) -> None:
    """Start a model's own generator from `seed`."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    else:
        generator.seed(seed)


def state_of(generator: Any) -> object:
    """What tells whether a model's own generator has been drawn from."""
    if isinstance(generator, torch.Generator):
        return generator.get_state().numpy().tobytes()
    if hasattr(generator, "bit_generator"):
        return repr(generator.bit_generator.state)
    return repr(generator.get_state() if hasattr(generator, "get_state") else generator.getstate())


def put_back(generator: Any) -> Callable[[], object]:
    """What puts a model's own generator back as it is now."""
    if hasattr(generator, "bit_generator"):
        return partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)
    get, put = ("getstate", "setstate") if hasattr(generator, "getstate") else ("get_state", "set_state")
    return partial(getattr(generator, put), getattr(generator, get)())


def _numpy() -> Any:
    module = sys.modules.get("numpy")
    return None if module is None else module.random


def _python() -> Any:
    return sys.modules.get("random")
