"""The plan of an audit: which lengths, positions and batch sizes it tries. It depends on the model's size alone.

The plan never depends on timings, so that an audit says the same on every machine.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from assay.audit.probing.ends import every_end, replaced_tokens

POWERS = (16, 32, 64, 128, 256)
OTHERS = (80, 96, 100, 120, 144, 150, 160, 192, 200, 240, 250, 300)
"""Chunk lengths that are no powers of two and longer than `short`, where every token is replaced anyway."""
LENGTHS = (1, 2, 3, 7, 15, 16, 17, 33, 48, 63, 64, 65, 96, 100, 128, 129, 150, 192, 200, 240, 255, 256, 257, 300)
MANY, FEW = 3, 4
TINY = 400_000
"""Below this cost every prefix length up to `middle` is tried, and every other cut."""
ALL_ENDS, SOME_ENDS = 42_000, 30_000_000_000
"""So many tokens are run to see what the ends of chunks of every length read; of a larger model fewer, but so many
times the cost of a token."""
EVERY_END = 2_000_000
"""Up to this cost the ends of chunks of every length are looked at."""
FEW_ROWS = 8
"""With how many rows the ends of chunks are looked at in a model that fills rows up."""
LARGE = 900_000
"""Cost from which a search looks at fewer positions, to stay within seconds."""
MODULE_COST, CALL_COST = 8_000, 50_000
"""The time that a module takes besides its parameters', and that of one call of torch per token, in parameters."""

EVERY_LENGTH = 320
"""The ends of chunks of every length below this are looked at in a small model, however long its rows are."""

FAR, ROWS = 64, (320, 640, 1280)
"""Beyond EVERY_LENGTH two places around every multiple of FAR are cuts; lengths of rows, shorter for early cuts.

So a thorough search of full attention, which works in proportion to the square of a row's length, takes minutes.
"""


@dataclass(frozen=True)
class Search:
    """What one audit tries. Lengths are in tokens.

    `longest` is the longest sequence; `middle` the length for gradients, `short` for replacing one token at a time,
    `content` for special contents. `cuts` are the positions after which everything is replaced in the longest
    sequences, `training_cuts` those tried in training mode too, `gradient_cuts` those whose logits are differentiated.
    `lengths` are the prefixes that are compared with the longest sequence, `batches` the numbers of rows.
    """

    longest: int
    middle: int
    short: int
    content: int
    cuts: tuple[int, ...]
    training_cuts: tuple[int, ...]
    gradient_cuts: tuple[int, ...]
    lengths: tuple[int, ...]
    batches: tuple[int, ...]
    seed: int
    stride: int = 1
    """Of the tokens that are replaced one at a time every so many-th is."""
    replaced: tuple[int, ...] = ()
    """The tokens that are replaced, with all after them, to see what chunks' ends and beginnings read (ends.py)."""
    repeated: tuple[int, ...] = ()
    """The prefixes that are compared on rows that repeat themselves."""
    repeating: int = 0
    """The length of the rows that repeat themselves."""
    rows: tuple[int, ...] = ()
    """Lengths of rows below `longest`: the tokens after a cut are replaced in the shortest of them that holds it."""
    brief: bool = False
    """Set for a large model, whose search is reduced: its weights as given, say, are not run in training mode."""
    lean: bool = False
    """Set where rows are few: for a large model that fills short rows up, and for its weights as given."""


def cost_of(model: nn.Module, calls_per_token: float = 0.0) -> int:
    """The time per token in units of a parameter's: parameters, plus what modules and calls of torch take besides."""
    parameters, modules = sum(p.numel() for p in model.parameters()), sum(1 for _ in model.modules())
    return parameters + MODULE_COST * modules + round(CALL_COST * calls_per_token)


def widths_of(model: nn.Module) -> frozenset[int]:
    """Sizes that axes of many parameters have, such as the model's width.

    The audit avoids sequences of such a length: in a tensor's shape it could not tell positions from channels when it
    locates a leak.
    """
    count = Counter(size for parameter in model.parameters() for size in set(parameter.shape))
    return frozenset(size for size, parameters in count.items() if parameters >= MANY)


def clear_of(length: int, widths: frozenset[int]) -> int:
    """The largest length up to `length` that is not in `widths`, if one of more than a few tokens is left."""
    while length in widths and length > FEW:
        length -= 1
    return length


def plan_search(
    longest: int,
    cost: int,
    thorough: bool,
    seed: int,
    widths: frozenset[int] = frozenset(),
    pads: bool = False,
) -> Search:
    """The search for a model of this cost, up to `longest` tokens; `thorough` is not reduced for large models.

    None of the lengths but those of prefixes is in `widths`. A model that `pads` short rows is searched with as few
    rows as possible.
    """

    def whole(length: int) -> int:
        return clear_of(min(length, longest), widths)

    longest = whole(longest)
    replaced = (
        ()
        if cost < TINY and not thorough
        else replaced_tokens(longest, (10 if thorough else 1) * _tokens_at_ends(cost))
    )
    if (cost >= LARGE or pads) and not thorough:
        few = Search(longest, whole(24), whole(20), whole(16), (), (), (), (), (2, 4), seed, brief=True)
        return _of_padding(_of_large(few)) if pads else _of_large(replace(few, replaced=replaced))
    further = range(512, longest, 256) if thorough else ()
    near = min(longest, EVERY_LENGTH)
    cuts = [0, 5, longest // 2 - 10, longest - 2, 240, 300, *(m - 1 for m in (*OTHERS, *range(16, near, 16)))]
    if cost < TINY:  # so that chunks of every length end at a cut
        cuts += every_end(near)
    cuts += [t for m in (*POWERS, *further) for t in (m - 1, m)]
    if thorough:
        cuts += [t for m in range(16, near, 16) for t in (m - 1, m, m + 1)]
        cuts += [t for m in range(near, longest, FAR) for t in (m - 1, m)]
    return Search(
        longest=longest,
        middle=whole(67),
        short=whole(131 if thorough else 67),
        content=whole(40),
        cuts=_inside(cuts, longest),
        training_cuts=_inside([0, 63, 150, 256, longest - 2], longest),
        gradient_cuts=_inside([63, 128, 256], longest),
        lengths=_prefixes((*(range(1, 67) if cost < TINY else ()), *LENGTHS, *further, longest - 1), longest),
        batches=(2, 4, 8),
        seed=seed,
        replaced=replaced,
        repeated=_prefixes([longest * n // 20 for n in (3, 9, 15)], longest),
        repeating=longest,
        rows=tuple(whole(length) for length in ROWS if length < longest),
    )


def _tokens_at_ends(cost: int) -> int:
    """The number of tokens that are run to see what chunks' ends read."""
    return ALL_ENDS if cost <= EVERY_END else max(int(ALL_ENDS * (EVERY_END / cost) ** 3), SOME_ENDS // cost)


def _of_large(search: Search) -> Search:
    """The search of a large model: few positions, each at the end of chunks of several lengths.

    240 tokens are whole chunks of 16, 40, 48, 60, 80 and 120, 192 and 256 of 64, 96 and 128. Prefix lengths are others
    than those of the cuts, to cover more places.
    """
    repeating = max(1, search.longest // 2)
    return replace(
        search,
        cuts=_inside([239, 255], search.longest) or _inside([(search.longest - 1) // 2], search.longest),
        training_cuts=_inside([239], search.longest) or _inside([(search.longest - 1) // 2], search.longest),
        gradient_cuts=_inside([255], search.longest),
        lengths=_prefixes((1, 17, 100, 192, 257), search.longest),
        repeated=_prefixes([repeating * 9 // 20], repeating),
        repeating=repeating,
    )


def _of_padding(search: Search) -> Search:
    """The search of a large model that fills short rows up: of each kind of rows one or two."""
    return replace(
        search,
        short=1,
        lengths=search.lengths[1::3],
        batches=search.batches[:1],
        replaced=replaced_tokens(search.longest, FEW_ROWS * search.longest, search.longest),
        lean=True,
    )


def lighter(search: Search) -> Search:
    """The search for the weights as given, with fewer positions: the redrawn ones, which hide less, get all of them."""
    return replace(
        search,
        short=1 if search.brief else min(search.short, search.content),
        cuts=(search.cuts[1:2] or search.cuts) if search.brief else search.cuts[:: max(2, len(search.cuts) // 14)],
        training_cuts=() if search.brief else search.training_cuts[1::2],
        gradient_cuts=(),
        lengths=search.lengths[1::3] or search.lengths,
        batches=search.batches[:1],
        content=1 if search.lean else search.content,
        replaced=(),
        lean=search.brief,
        repeated=search.repeated[1:2],
    )


def _inside(cuts: Iterable[int], length: int) -> tuple[int, ...]:
    return tuple(sorted({cut for cut in cuts if 0 <= cut < length - 1}))


def _prefixes(lengths: Iterable[int], longest: int) -> tuple[int, ...]:
    """The lengths, sorted, that are shorter than the longest sequence."""
    return tuple(sorted(n for n in set(lengths) if 0 < n < longest))
