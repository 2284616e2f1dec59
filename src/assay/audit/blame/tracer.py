"""Finds every module whose own code makes two runs differ where they should agree, in the order the modules run.

The first run is recorded. In the second, inputs and outputs of every module are compared with the recording in the part
that must agree. A difference is noted and then overwritten with the recorded values, so that later modules do not
inherit it. Who is to blame for a difference:

- in an output of a module whose inputs agreed: that module;
- in an input of a module, although all modules before it were corrected: the module whose code called it;
- in an input that agreed at entry and does not at exit: the module that changed it in place.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.blame.pairing import Pairing, Views
from assay.audit.subject.differences import change, size

DEPTH = 5
"""The deepest nesting of containers and objects in which tensors are looked for in inputs and outputs."""

Leaves = dict[str, Tensor]


@dataclass
class Blame:
    """One module whose own code makes a difference: how large and where.

    `aside` describes its inputs that differ but have no part that must agree, such as states; `drew` says whether it
    drew random numbers.
    """

    module: str
    moved: float
    relative: float
    position: int | None
    aside: tuple[str, ...] = ()
    drew: bool = False


@dataclass
class _Call:
    """The inputs and outputs of one call of a module in the first run."""

    inputs: Leaves
    inputs_after: Leaves = field(default_factory=dict)
    outputs: Leaves = field(default_factory=dict)


@dataclass
class _Active:
    """A call that has not returned yet."""

    name: str
    key: tuple[str, int]
    live: Leaves
    aside: tuple[str, ...] = ()
    seen: object = None
    drew: bool = False


class Tracer:
    """Records one run and compares another with it; `blamed` lists the modules in the order they ran.

    `pairing` may be replaced, and `next_pass` called, between the calls of the second run. `fingerprint` tells whether
    anything was drawn at random. `tolerance` is relative to the root mean square of what is compared.
    """

    def __init__(
        self, model: nn.Module, pairing: Pairing, tolerance: float, fingerprint: Callable[[], object] | None = None
    ) -> None:
        self.model = model
        self.pairing = pairing
        self.blamed: dict[str, Blame] = {}
        self._tolerance = tolerance
        self._fingerprint = fingerprint or (lambda: None)
        self._names = {module: name for name, module in model.named_modules()}
        self._calls: dict[tuple[str, int], _Call] = {}
        self._counts: dict[str, int] = {}
        self._stack: list[_Active] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the run inside the block, the first one."""
        with self._hooked(self._record_entry, self._record_exit):
            yield

    @contextmanager
    def comparing(self) -> Iterator[None]:
        """Compare the run inside the block, the second one, with the recorded one."""
        with self._hooked(self._compare_entry, self._compare_exit):
            yield

    def time_axes(self, shorter: "Tracer") -> dict[int, tuple[int, ...]]:
        """The axes of positions of the recorded tensors, by `id()`: those that are shorter in a run of fewer tokens."""
        axes = {}
        for key, call in self._calls.items():
            other = shorter._calls.get(key)
            if other is None:
                continue
            sides = (
                (call.inputs, other.inputs),
                (call.inputs_after, other.inputs_after),
                (call.outputs, other.outputs),
            )
            for longer_run, shorter_run in sides:
                for path, tensor in longer_run.items():
                    shape = shorter_run[path].shape if path in shorter_run else None
                    if shape is not None and len(shape) == tensor.ndim:
                        axes[id(tensor)] = tuple(a for a in range(tensor.ndim) if tensor.shape[a] != shape[a])
        return axes

    def next_pass(self, pairing: Pairing) -> None:
        """Announce that the second run calls the model again, to be compared with the same recorded call."""
        self.pairing = pairing
        self._counts, self._stack = {}, []

    @contextmanager
    def _hooked(self, entry: Callable[..., Any], leave: Callable[..., Any]) -> Iterator[None]:
        self._counts, self._stack = {}, []
        handles = []
        for module in self._names:
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks, so the module that calls it is blamed
                continue
            handles.append(module.register_forward_pre_hook(_unseen(entry), prepend=True, with_kwargs=True))
            handles.append(module.register_forward_hook(_unseen(leave), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self, module: nn.Module, live: Leaves) -> _Active:
        name = self._names[module]
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        seen = self._fingerprint()
        if self._stack:
            parent = self._stack[-1]
            parent.drew |= parent.seen != seen
        active = _Active(name, (name, number), live, seen=seen)
        self._stack.append(active)
        return active

    def _end(self) -> _Active:
        active = self._stack.pop()
        seen = self._fingerprint()
        active.drew |= active.seen != seen
        if self._stack:
            self._stack[-1].seen = seen
        return active

    def _record_entry(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        live = leaves_of((args, kwargs))
        active = self._begin(module, live)
        self._calls[active.key] = _Call(_cloned(live))

    def _record_exit(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        active = self._end()
        call = self._calls[active.key]
        call.inputs_after = {
            path: call.inputs[path] if torch.equal(tensor, call.inputs[path]) else tensor.detach().clone()
            for path, tensor in active.live.items()
        }
        call.outputs = _cloned(leaves_of(output))

    def _compare_entry(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        parent = self._stack[-1] if self._stack else None
        active = self._begin(module, leaves_of((args, kwargs)))
        call = self._calls.get(active.key)
        if call is None:
            return None
        replaced: dict[int, Tensor] = {}
        own = parent is None and module is self.model  # what the audit gives the model, such as targets, may differ
        for path, before, after in () if own else _matched(call.inputs, active.live):
            if self.pairing(before, after):
                self._judge(before, after, parent or _Active("", ("", 0), {}), replaced)
            elif before.shape != after.shape or self._moved(before, after)[1] > self._tolerance:
                active.aside = (*active.aside, self._described(module, path, before))
        if not replaced:
            return None
        given = _substituted((args, kwargs), replaced)
        active.live = leaves_of(given)
        return given

    def _compare_exit(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        active = self._end()
        call = self._calls.get(active.key)
        if call is None:
            return None
        replaced: dict[int, Tensor] = {}
        for _, before, after in _matched(call.inputs_after, active.live):
            self._judge(before, after, active, {})
        for _, before, after in _matched(call.outputs, leaves_of(output)):
            self._judge(before, after, active, replaced)
        return _substituted(output, replaced) if replaced else None

    def _judge(self, before: Tensor, after: Tensor, active: _Active, replaced: dict[int, Tensor]) -> None:
        """Note a difference as the active module's, and overwrite it: in place, or in a copy put into `replaced`."""
        differing = False
        for views in self.pairing(before, after):
            moved, relative = self._moved(views.before, views.after)
            if relative > self._tolerance:
                differing = True
                self._note(active, views, moved, relative)
        if not differing:
            return
        try:
            for views in self.pairing(before, after):
                views.after.copy_(views.before)
        except RuntimeError:  # an expanded tensor, whose elements share memory, cannot be written to
            replaced[id(after)] = after.clone(memory_format=torch.contiguous_format)
            for views in self.pairing(before, replaced[id(after)]):
                views.after.copy_(views.before)

    def _note(self, active: _Active, views: Views, moved: float, relative: float) -> None:
        position = None
        if views.axis is not None:
            difference = change(views.before, views.after).movedim(views.axis, 0)
            position = views.first + int(difference.reshape(len(difference), -1).amax(1).argmax())
        blame = self.blamed.setdefault(active.name, Blame(active.name, 0.0, 0.0, None))
        blame.aside = tuple(dict.fromkeys((*blame.aside, *active.aside)))
        blame.drew |= active.drew
        if relative > blame.relative:
            blame.moved, blame.relative, blame.position = moved, relative, position

    def _moved(self, before: Tensor, after: Tensor) -> tuple[float, float]:
        if before.numel() == 0 or (before.dtype == after.dtype and torch.equal(before, after)):
            return 0.0, 0.0
        moved = change(before, after).amax().item()
        scale = size(before)
        return moved, moved / scale if scale > 0 else float(moved > 0) * float("inf")

    def _described(self, module: nn.Module, path: str, before: Tensor) -> str:
        """In words, an argument that differs but has no positions: name, shape, the innermost module it came from."""
        what = f"`{_argument(module, path)}` {list(before.shape)}"
        makers = [
            name
            for (name, _), call in self._calls.items()
            for output in call.outputs.values()
            if output.shape == before.shape and before.numel() > 1 and torch.equal(output, before)
        ]
        if not makers:
            return what
        return f"{what}, the final state of {self.title(max(makers, key=lambda name: name.count('.')))}"

    def title(self, name: str) -> str:
        """The module's name with its class."""
        kind = type(self.model.get_submodule(name)).__name__
        return f"{name} ({kind})" if name else f"{kind} itself"


def _unseen(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook, run so that torch function modes that watch the model's calls of torch do not see the hook's calls."""

    def run(*args: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return hook(*args)

    return run


def leaves_of(value: Any, path: str = "", depth: int = DEPTH) -> Leaves:
    """{path: tensor} for every tensor in nested tuples, mappings and objects."""
    if isinstance(value, Tensor):
        return {path: value}
    if depth == 0 or value is None or isinstance(value, nn.Module | type | str | bytes | int | float | torch.dtype):
        return {}
    if isinstance(value, Mapping):
        members = {f"{path}[{key!r}]": member for key, member in value.items()}
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        members = {f"{path}.{name}": getattr(value, name) for name in value._fields}
    elif isinstance(value, tuple | list):
        members = {f"{path}[{index}]": member for index, member in enumerate(value)}
    else:
        members = {f"{path}.{name}": member for name, member in getattr(value, "__dict__", {}).items()}
    return {key: leaf for name, member in members.items() for key, leaf in leaves_of(member, name, depth - 1).items()}


def _argument(module: nn.Module, path: str) -> str:
    """The path "[0][1].x" or "[1]['state'].x" in words: "state.x"."""
    number = re.match(r"\[0\]\[(\d+)\]", path)
    if number is None:
        return re.sub(r"^\[1\]\['(\w+)'\]", r"\1", path)
    names = list(inspect.signature(module.forward).parameters)
    place = int(number[1])
    return (names[place] if place < len(names) else f"argument {place}") + path[number.end() :]


def _cloned(leaves: Leaves) -> Leaves:
    return {path: tensor.detach().clone() for path, tensor in leaves.items()}


def _matched(before: Leaves, after: Leaves) -> Iterator[tuple[str, Tensor, Tensor]]:
    for path, tensor in after.items():
        if path in before:
            yield path, before[path], tensor


def _substituted(value: Any, replaced: dict[int, Tensor]) -> Any:
    """`value` with every tensor in `replaced`, which is keyed by `id()`, exchanged for its replacement."""
    if isinstance(value, Tensor):
        return replaced.get(id(value), value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_substituted(member, replaced) for member in value))
    if isinstance(value, tuple | list):
        return type(value)(_substituted(member, replaced) for member in value)
    if isinstance(value, dict) and type(value) is dict:
        return {key: _substituted(member, replaced) for key, member in value.items()}
    return value
