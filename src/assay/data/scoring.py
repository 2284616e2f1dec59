"""Windows to score: of a text, so that every byte of a split counts exactly once, or sequences of a task."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from assay.data.batches import Ints, permutation
from assay.data.text.tokenized import TokenizedSplit
from assay.errors import RequestError
from assay.seeding import derive
from assay.targets import IGNORED


@dataclass(frozen=True)
class ScoringWindows:
    """N windows of one document each, in the order of the documents; C is the context.

    A document is BOS + tokens + EOS. EOS is a target and counts no bytes; BOS is never a target. Each sequence of a
    task is a document without bytes, with targets at some positions only.
    """

    inputs: Ints
    """[N, C], 0 where padded."""
    targets: Ints
    """[N, C], what each position must predict; `IGNORED` where padded or without a target."""
    document: Ints
    """[N], index of the document in its split."""
    source: Ints
    """[N], number of the source that the document is from."""
    offset: Ints
    """[N], index of the first input in its document."""
    bytes: Ints
    """[N], bytes of text of the targets."""

    @property
    def lengths(self) -> Ints:
        """[N], the number of inputs of each window up to the position of its last target, inclusive."""
        scored = self.targets != IGNORED
        reached: Ints = np.where(scored.any(axis=1), scored.shape[1] - scored[:, ::-1].argmax(axis=1), 0)
        return reached

    def batches(self, batch_size: int) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield (windows' numbers [b], inputs [b, T], targets [b, T]), windows of similar length together.

        T is the longest length in the batch.
        """
        lengths = self.lengths
        order = np.argsort(-lengths, kind="stable")
        for low in range(0, len(order), batch_size):
            rows = order[low : low + batch_size]
            longest = int(lengths[rows[0]])
            yield rows, self.inputs[rows, :longest], self.targets[rows, :longest]


def scoring_windows(
    split: TokenizedSplit, context: int, token_bytes: Ints, seed: int, max_tokens: int | None = None
) -> ScoringWindows:
    """Cut each document's inputs into windows of `context` that do not overlap; the state starts anew in each.

    `token_bytes`: [V], bytes of text of each id, where the split has none of its own. With `max_tokens` only windows
    with so many targets in all are kept: whole windows, drawn in an order that depends on `seed` alone, as many as fit
    and at least one.
    """
    if context < 1:
        raise RequestError(f"--context {context}: at least 1 token is needed")
    if max_tokens is not None and max_tokens < 1:
        raise RequestError(f"{max_tokens} tokens to score: at least 1 is needed")
    inputs_of = np.diff(split.starts) - 1  # EOS is never an input
    windows_of = -(-inputs_of // context)
    document = np.repeat(np.arange(len(inputs_of)), windows_of)
    first = np.cumsum(windows_of) - windows_of
    offset = (np.arange(len(document)) - first[document]) * context
    length = np.minimum(context, inputs_of[document] - offset)
    if max_tokens is not None:
        order = permutation(len(document), derive(seed, "evaluation"))
        fitting = int(np.searchsorted(np.cumsum(length[order]), max_tokens, side="right"))
        chosen = np.sort(order[: max(1, fitting)])
        document, offset, length = document[chosen], offset[chosen], length[chosen]
    position = np.arange(context)
    real = position < length[:, None]
    place = np.where(real, (split.starts[document] + offset)[:, None] + position, 0)
    ids = split.ids[place + 1].astype(np.int64)
    targets = np.where(real, ids, IGNORED)
    bytes_of = token_bytes[ids] if split.token_bytes is None else split.token_bytes[place + 1].astype(np.int64)
    return ScoringWindows(
        inputs=np.where(real, split.ids[place].astype(np.int64), 0),
        targets=targets,
        document=document,
        source=split.sources[document],
        offset=offset,
        bytes=np.where(real, bytes_of, 0).sum(axis=1),
    )
