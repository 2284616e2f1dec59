"""How a model is called to get the logits of ids: with ids alone, with next tokens as targets, a row at a time.

Shapes: B batch, T tokens, V vocabulary.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from assay.audit.calling.labels import parts_of, takes_labels
from assay.errors import RequestError

_LOSSES = {F.cross_entropy, F.nll_loss}
_SOFTMAXES = {F.log_softmax, torch.log_softmax, Tensor.log_softmax}

Fill = Callable[[Tensor], Any]
"""From ids [B, T] to what another argument of `forward` gets."""


def _positions(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)


_FILLS: tuple[tuple[tuple[str, ...], tuple[Fill, ...]], ...] = (
    (("cu_seq", "cu_len", "seqlens"), (lambda ids: torch.tensor([0, ids.numel()], dtype=torch.int32),)),
    (("position", "pos_id", "pos", "input_pos"), (_positions, lambda ids: _positions(ids)[0])),
    (("start", "offset", "step", "iter", "epoch"), (lambda _: 0, lambda _: torch.tensor(0))),
    (("attention_mask", "padding_mask", "pad_mask"), (torch.ones_like, lambda ids: torch.ones_like(ids).bool())),
    (("doc", "segment", "seq_id", "sequence_id"), (torch.zeros_like, lambda ids: torch.zeros_like(ids)[0])),
    (("seq_len", "seqlen", "length", "block_size"), (lambda ids: ids.shape[1], lambda ids: torch.tensor(ids.shape[1]))),
    (("window", "num_block"), (lambda _: 1 << 10, lambda _: torch.tensor(1 << 10, dtype=torch.int32))),
    (("state", "cache", "past", "hidden", "mems"), (lambda _: None,)),
)
"""Parts of names of arguments, and the values that they may get, of which each is tried."""


@dataclass(frozen=True)
class Calling:
    """One way to call a model.

    `targets` names the argument that gets the next tokens (the last place its own id again); where that is `guessed`,
    as its name says nothing, a loss must come back beside the logits. `filled` are other arguments by name. `flat`
    gives ids [T], `alone` one row [1, T] at a time, `batch` so many rows as the model takes and no other number, which
    are filled up with copies. `captured` takes for logits what the model's own cross-entropy, or log-softmax, gets: of
    a model that returns a loss alone. `extra` gives one token more, the last one again: to a model that shifts ids and
    targets itself.
    """

    targets: str | None = None
    guessed: bool = False
    filled: Mapping[str, Fill] = field(default_factory=dict)
    flat: bool = False
    alone: bool = False
    batch: int = 0
    captured: bool = False
    extra: bool = False

    def logits(self, model: Callable[..., Any], ids: Tensor) -> Tensor:
        """The logits [B, T, V] that `model` gives for `ids` [B, T]; a RequestError where it gives something else."""
        if self.batch:
            rows = len(ids)
            parts = [torch.cat([part, part[:1].expand(self.batch - len(part), -1)]) for part in ids.split(self.batch)]
            return torch.cat([self._once(model, part) for part in parts])[:rows]
        if (self.flat or self.alone) and len(ids) > 1:
            return torch.cat([self._once(model, row) for row in ids.split(1)])
        return self._once(model, ids)

    def _once(self, model: Callable[..., Any], ids: Tensor) -> Tensor:
        if not (self.captured or self.extra):
            output = self.called(model, ids)
            logits = logits_of(output, ids)
            if self.guessed and parts_of(output, ids, logits.shape[-1])[1] is None:
                raise RequestError(f"model: gives no loss for next tokens as `{self.targets}`")
            return logits
        given = torch.cat([ids, ids[:, -1:]], 1) if self.extra else ids
        with _Losses() as seen:
            output = self.called(model, given)
        found = seen.logits(ids.shape)
        return logits_of(output if found is None else found, ids)

    def called(self, model: Callable[..., Any], ids: Tensor) -> Any:
        """What `model` returns for `ids` [B, T]."""
        named = {name: fill(ids) for name, fill in self.filled.items()}
        if self.targets is not None:
            named[self.targets] = torch.cat([ids[:, 1:], ids[:, -1:]], 1)
        if self.flat:
            named = {name: value[0] if _is_row(value, ids) else value for name, value in named.items()}
        return model(ids[0] if self.flat else ids, **named)

    def in_words(self) -> str:
        """What a reader of the report must know of the way in which the model is called; empty where it is plain."""
        words = [f"`{self.targets}` are the next tokens"] if self.targets is not None else []
        words += ["logits are what the model's own loss gets"] if self.captured else []
        words += ["one row a call"] if self.flat or self.alone else []
        words += [f"{self.batch} rows a call"] if self.batch else []
        words += [f"`{name}` is filled in" for name in self.filled]
        return ", ".join(words)


def _is_row(value: Any, ids: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == ids.shape


def callings(model: nn.Module) -> list[Calling]:
    """The ways to call `model` that its `forward` allows, the plainest first.

    A RequestError of one line where it needs an argument that cannot be guessed, such as a mask.
    """
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # scripted code
        return [Calling()]
    others = [p for p in parameters[1:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p.name for p in others if p.default is p.empty]
    wanted = next((name for name in needed if takes_labels(name)), None)
    unknown = [
        name for name in needed if not takes_labels(name) and _fills(name) is None and "mask" not in name.lower()
    ]
    guessed = unknown[0] if wanted is None and len(unknown) == 1 else None
    offered = next((p.name for p in others if takes_labels(p.name)), None)
    left = [name for name in needed if name not in (wanted, guessed)]
    ways = [Calling(filled=dict(filled)) for filled in _fillings(model, left)]
    targeted = [
        replace(way, targets=name, guessed=guessed is not None)
        for name in [wanted or guessed or offered]
        if name
        for way in ways
    ]
    ways = targeted if wanted or guessed else ways + targeted
    ways += [replace(way, flat=True) for way in ways]
    return ways + [replace(way, captured=True, extra=way.targets is None) for way in ways]


def unguessable(model: nn.Module, name: str) -> RequestError:
    """What is said of a model that needs an argument of which nobody knows what it means."""
    words = f"{type(model).__name__}.forward needs `{name}` besides ids, which cannot be guessed"
    return RequestError(f"model: {words}; a module whose forward takes ids [B, T] alone would do")


def _fills(name: str) -> tuple[Fill, ...] | None:
    """The values that an argument of this name may get; None where the name says nothing."""
    low = name.lower()
    fills = next((fills for parts, fills in _FILLS if any(part in low for part in parts)), None)
    return None if "mask" in low and not any(part in low for part in _FILLS[3][0]) else fills


def _fillings(model: nn.Module, names: list[str]) -> Iterator[dict[str, Fill]]:
    """For each argument in `names` a value that fits its name, in up to two ways."""
    found: dict[str, tuple[Fill, ...]] = {}
    for name in names:
        fills = _fills(name)
        if fills is None:
            raise unguessable(model, name)
        found[name] = fills
    for number in range(max((len(fills) for fills in found.values()), default=1)):
        yield {name: fills[min(number, len(fills) - 1)] for name, fills in found.items()}


class _Losses(TorchFunctionMode):
    """Inside the block notes what cross-entropies and log-softmaxes get, in rows [N, V]."""

    def __init__(self) -> None:
        super().__init__()
        self._losses: list[Tensor] = []
        self._softmaxes: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _LOSSES or func in _SOFTMAXES:
            given = args[0] if args else kwargs.get("input")
            if isinstance(given, Tensor) and given.ndim > 1:
                loss = func in _LOSSES
                rows = given.movedim(1, -1) if loss else given
                (self._losses if loss else self._softmaxes).append(rows.flatten(0, -2))
        return func(*args, **kwargs)

    def logits(self, shape: torch.Size) -> Tensor | None:
        """The logits [B, T, V] for ids of this shape [B, T], in one piece or in several; None where none fit."""
        for pieces in (self._losses, self._softmaxes[-1:], self._softmaxes):
            widest = max((piece.shape[1] for piece in pieces), default=0)
            logits = [piece for piece in pieces if piece.shape[1] == widest]  # others are of experts, say
            for chosen in (logits, logits[:1]):  # further heads may predict further tokens
                if chosen and sum(len(piece) for piece in chosen) == shape.numel():
                    return torch.cat(chosen).view(*shape, -1)
        return None


class OtherLengthError(RequestError):
    """What the model gives looks like logits, but of another number of tokens, as of one that takes a single length."""


def logits_of(output: Any, ids: Tensor) -> Tensor:
    """The logits [B, T, V] in what a model returned for `ids` [B, T]; else a RequestError of one line."""
    for found in _candidates(output):
        if isinstance(found, Tensor) and (logits := _as_logits(found, ids)) is not None:
            return logits
    got = f"{output.dtype} {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    first = next((part for part in _candidates(output) if isinstance(part, Tensor)), None)
    if not isinstance(output, Tensor) and first is not None:
        got = f"{first.dtype} {list(first.shape)}"
    dense = first is not None and first.ndim == 3 and first.is_floating_point()
    other_length = dense and first is not None and len(first) == len(ids) and first.shape[1] not in (1, ids.shape[1])
    raise (OtherLengthError if other_length else RequestError)(
        f"model: gives {got} for ids {list(ids.shape)}; logits [B, T, V], first in a tuple or as `logits`, would do"
    )


def _candidates(output: Any) -> list[Any]:
    """What in a model's output may be its logits, the likeliest first: those called so, then others in their order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, tuple | list) and not hasattr(output, "_fields") and not hasattr(output, "logits"):
        return list(output)
    if isinstance(output, Mapping):
        named = dict(output)
    elif hasattr(output, "_asdict"):
        named = output._asdict()
    else:
        fields = getattr(output, "__dataclass_fields__", ())
        named = {**getattr(output, "__dict__", {}), **{name: getattr(output, name, None) for name in fields}}
        named["logits"] = getattr(output, "logits", None)
    if isinstance(named.get("logits"), Tensor):
        return [named["logits"]]
    return [named[name] for name in sorted(named, key=lambda name: "logit" not in str(name))]


def _as_logits(found: Tensor, ids: Tensor) -> Tensor | None:
    """`found` as [B, T, V], also where it is [B T, V], as some models flatten it for a loss."""
    B, T = ids.shape
    if not found.is_floating_point() or found.layout is not torch.strided or found.numel() == 0:
        return None
    if found.ndim == 3 and found.shape[:2] == ids.shape:
        return found
    return found.unflatten(0, (B, T)) if found.ndim == 2 and found.shape[0] == B * T else None
