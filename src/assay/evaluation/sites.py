"""Where a model can be looked into and changed from outside: blocks, mixers, MLPs, heads, and paths of fused mixers.

Sites are found by the parts of a `LanguageModel`, by `PathTap`, and for heads by `n_heads` of the layers whose output
projection is one of their `residual_outputs`. A layer that declares neither has no sites of that kind.

Shapes: B sequences, T tokens, D d_model, C channels of a site.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, get_args

from jaxtyping import Float
from torch import Tensor, nn

from assay.layers.basic import PathTap
from assay.layers.mixer import SequenceLayer
from assay.model.lm import Block, LanguageModel

Part = Literal["block", "mixer", "mlp", "path", "head"]
PARTS: tuple[Part, ...] = get_args(Part)
Change = Callable[["Place", Tensor], Tensor]
"""(a place, what is there [B, T, C]) -> what stands there instead, of the same shape."""


class Place(NamedTuple):
    """One tensor [B, T, C] of one module that a hook can read and replace."""

    module: nn.Module
    of: Literal["addition", "output", "input"]
    """What a block adds to the residual stream; what the module returns (first, of several); its first argument."""
    block: int
    first: int = 0
    """First of its channels."""
    end: int | None = None
    """One past the last; None is all from `first` on."""

    def part(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B T C"]:
        """Its channels."""
        return x[..., self.first : self.end]

    def put(self, x: Float[Tensor, "B T W"], part: Float[Tensor, "B T C"]) -> Float[Tensor, "B T W"]:
        """`x` with its channels replaced."""
        if self.first == 0 and self.end is None:
            return part.to(x.dtype)
        x = x.clone()
        x[..., self.first : self.end] = part.to(x.dtype)
        return x


class Site(NamedTuple):
    """One place, or the same part of several blocks at once."""

    part: Part
    name: str
    """Of a head its number, of a path its name, of mixers and blocks their kind."""
    block: int | None
    """None is every block that has it."""
    places: tuple[Place, ...]

    @property
    def first_block(self) -> int:
        """No earlier block computes anything else than it did."""
        return min(place.block for place in self.places)


def sites_of(model: LanguageModel, parts: Sequence[Part] = PARTS) -> list[Site]:
    """The sites of `model` that are of `parts`, those of whole kinds first, then block by block."""
    of_blocks = [site for index, block in enumerate(model.sequence_blocks()) for site in _of_block(block, index)]
    return [site for site in (*_of_kinds(of_blocks), *of_blocks) if site.part in parts]


def _of_block(block: Block, index: int) -> Iterator[Site]:
    mixer = block.mixer
    yield Site("block", type(mixer).__name__, index, (Place(block, "addition", index),))
    yield Site("mixer", type(mixer).__name__, index, (Place(mixer, "output", index),))
    if block.channel_mixer is not None:
        yield Site("mlp", type(block.channel_mixer).__name__, index, (Place(block.channel_mixer, "output", index),))
    for name, module in mixer.named_modules():
        if isinstance(module, PathTap):
            yield Site("path", path_name(name), index, (Place(module, "output", index),))
    yield from _heads(mixer, index)


def path_name(attribute: str) -> str:
    """What a path is called: "rwkv" of the tap `rwkv_path`, "local" of `local_tap`."""
    return attribute.rpartition(".")[2].removesuffix("_tap").removesuffix("_path")


def _heads(mixer: SequenceLayer, block: int) -> Iterator[Site]:
    """The heads of every layer in `mixer`: equal parts of what its output projection reads."""
    for layer_name, layer in mixer.named_modules():
        if not isinstance(layer, SequenceLayer):
            continue
        count = getattr(layer, "n_value_heads", None) or getattr(layer, "n_heads", None)
        outputs = {id(weight) for weight in layer.residual_outputs()}
        for name, child in layer.named_children():
            if not isinstance(child, nn.Linear) or id(child.weight) not in outputs:
                continue
            if not isinstance(count, int) or count < 2 or child.in_features % count:
                continue
            width, called = child.in_features // count, ".".join(filter(None, (layer_name, name)))
            for head in range(count):
                place = Place(child, "input", block, head * width, (head + 1) * width)
                yield Site("head", f"{called}.{head}", block, (place,))


def _of_kinds(sites: Sequence[Site]) -> Iterator[Site]:
    """All mixers, all MLPs, each path, and where mixers are of several kinds each kind: in every block at once."""
    for part in ("mixer", "mlp"):
        of_part = [site for site in sites if site.part == part]
        kinds = list(dict.fromkeys(site.name for site in of_part))
        if of_part:
            yield Site(part, "all", None, tuple(place for site in of_part for place in site.places))
        for kind in kinds if len(kinds) > 1 else []:
            yield Site(part, kind, None, tuple(place for site in of_part if site.name == kind for place in site.places))
    for name in dict.fromkeys(site.name for site in sites if site.part == "path"):
        of_path = [site for site in sites if site.part == "path" and site.name == name]
        yield Site("path", name, None, tuple(place for site in of_path for place in site.places))


@contextmanager
def seen(places: Sequence[Place], see: Callable[[Place, Tensor], None]) -> Iterator[None]:
    """Let `see` read what is at each of `places` in every forward pass meanwhile."""

    def reads(place: Place, x: Tensor) -> Tensor:
        see(place, x)
        return x

    with _hooked(places, reads, write=False):
        yield


@contextmanager
def replaced(places: Sequence[Place], change: Change) -> Iterator[None]:
    """Put what `change` makes of it at each of `places` in every forward pass meanwhile."""
    with _hooked(places, change, write=True):
        yield


@contextmanager
def _hooked(places: Sequence[Place], change: Change, write: bool) -> Iterator[None]:
    hooks = []
    try:
        for place in places:
            if place.of == "input":
                hooks.append(place.module.register_forward_pre_hook(_at_input(place, change, write)))
            else:
                hooks.append(place.module.register_forward_hook(_at_output(place, change, write)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _at_input(place: Place, change: Change, write: bool) -> Callable[..., Any]:
    def hook(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        new = change(place, place.part(arguments[0]))
        return (place.put(arguments[0], new), *arguments[1:]) if write else None

    return hook


def _at_output(place: Place, change: Change, write: bool) -> Callable[..., Any]:
    def hook(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        y = output if isinstance(output, Tensor) else output[0]
        before = arguments[0] if place.of == "addition" else 0
        new = change(place, place.part(y - before if place.of == "addition" else y))
        if not write:
            return None
        y = before + new if place.of == "addition" else place.put(y, new)
        return y if isinstance(output, Tensor) else (y, *output[1:])

    return hook
