"""Models of the gallery that are called as the code of contests and papers is: with targets, a row at a time, at some
lengths only; and models that cannot do everything on every machine.

`broken=True` plants the defect, a mixer that reads one token ahead; everything else, parameters included, is the same
in both. Shapes: B batch, T tokens, V vocabulary.
"""

# mypy: disable-error-code="no-any-return"

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery_rules import one_ahead
from plain_models import Mixing, V, causal_attention, small


class Shaped(nn.Module):
    """Holds a language model whose second mixer reads ahead where it is broken."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.model = small(Mixing(one_ahead if broken else causal_attention))


class AtLengths(Shaped):
    """Takes only the lengths for which `takes` is true."""

    def __init__(self, broken: bool, takes: Callable[[int], bool]) -> None:
        super().__init__(broken)
        self.takes = takes

    def forward(self, ids: Tensor) -> Tensor:
        assert self.takes(ids.shape[1]), f"{ids.shape[1]} tokens"
        return self.model(ids)


class LastOnly(Shaped):
    """Logits of the last position alone where no targets are given: the others would be computed for nothing."""

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.model.hidden(idx)
        if targets is None:
            return self.model.head(x[:, [-1]]), None
        logits = self.model.head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


class LossAlone(Shaped):
    """Needs targets and returns their loss."""

    def forward(self, input_ids: Tensor, target_ids: Tensor) -> Tensor:
        logits = 30 * torch.tanh(self.model(input_ids) / 30)
        routed = logits[..., :3].flatten(0, 1)  # as of a router of experts, whose loss is added
        balance = F.cross_entropy(routed, routed.argmax(-1))
        return F.cross_entropy(logits.view(-1, V).float(), target_ids.reshape(-1)) + 0.01 * balance


class FlatLoss(Shaped):
    """Takes one row [T] of multiples of 12 tokens, and its targets, and returns a loss."""

    def forward(self, inputs: Tensor, target_seq: Tensor) -> Tensor:
        assert inputs.ndim == 1
        assert len(inputs) % 12 == 0
        logits = self.model(inputs[None]).squeeze(0)
        return F.cross_entropy(logits, target_seq, reduction="sum" if self.training else "mean")


class ShiftsInside(Shaped):
    """Scores each token of what it is given but the first, and returns the loss; takes one length, if one is given."""

    def __init__(self, broken: bool, length: int | None) -> None:
        super().__init__(broken)
        self.length = length

    def forward(self, seq: Tensor) -> Tensor:
        assert self.length is None or seq.shape[1] == self.length + 1
        logits = self.model(seq[:, :-1]).log_softmax(-1)
        return -logits.gather(-1, seq[:, 1:, None]).mean()


class LossInTraining(Shaped):
    """A loss in training mode, at another temperature than that of the logits otherwise."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        logits = self.model(x)
        if not self.training:
            return logits
        assert y is not None
        return F.cross_entropy(logits.transpose(1, 2) / 2, y)


class Positioned(Shaped):
    """Needs the tokens' positions and the numbers of their documents, one a token."""

    def forward(self, ids: Tensor, positions: Tensor, doc_ids: Tensor) -> dict[str, Tensor]:
        assert positions.shape == doc_ids.shape == ids.shape
        return {"loss": torch.zeros(()), "lm_logits": self.model(ids) + 0.0 * positions[..., None] * doc_ids[..., None]}


class Rows(Shaped):
    """Takes so many rows and no other number of them."""

    def __init__(self, broken: bool, rows: int) -> None:
        super().__init__(broken)
        self.rows = rows

    def forward(self, ids: Tensor) -> Tensor:
        assert len(ids) == self.rows
        return self.model(ids)


class NoBackward(Shaped):
    """Runs only where no gradients are taken."""

    def forward(self, ids: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise NotImplementedError("there is no backward on this machine")
        return self.model(ids)


class NoTraining(Shaped):
    """Runs in evaluation mode alone."""

    def forward(self, ids: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("training needs another machine")
        return self.model(ids)
