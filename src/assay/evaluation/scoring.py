"""Nats of a model on scoring windows, batch by batch: one pass over the windows serves everybody who reads it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.data.scoring import ScoringWindows
from assay.evaluation.passes import windows_at_once
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.ops.cross_entropy import token_nats
from assay.targets import IGNORED

BATCH_TOKENS = 8_192
"""Tokens a forward pass when scoring; without gradients more fit than in training."""


@dataclass(frozen=True)
class ScoredBatch:
    """b windows after one forward pass, cut to the longest of them, T tokens. It lives until the next batch is made."""

    rows: Int[np.ndarray, " b"]
    """Which windows they are."""
    inputs: Int[np.ndarray, "b T"]
    targets: Int[np.ndarray, "b T"]
    """`IGNORED` where a window is padded."""
    hidden: Float[Tensor, "b T D"]
    """What the head reads, on the plan's device."""
    nats: Float[np.ndarray, "b T"]
    """Of each target, float64; zero where it is padding."""
    head: Callable[[Tensor], Tensor]

    def logits(self, hidden: Float[Tensor, "n D"]) -> Float[Tensor, "n V"]:
        """float32 logits of a few of the batch's hidden vectors: those of all would not fit where V is large."""
        return self.head(hidden)


@torch.no_grad()
def scored_batches(model: LanguageModel, windows: ScoringWindows, plan: ExecutionPlan) -> Iterator[ScoredBatch]:
    """One pass over `windows`, windows of like length together; the state starts afresh in each window.

    The model is in evaluation mode meanwhile.
    """

    def head(hidden: Tensor) -> Tensor:
        with torch.no_grad(), plan.autocast():
            logits: Tensor = model.head(hidden)
        return logits.float()

    training = model.training
    model.eval()
    try:
        for rows, inputs, targets in windows.batches(windows_at_once(model, windows.inputs.shape[1], BATCH_TOKENS)):
            ids, labels = torch.from_numpy(inputs).to(plan.device), torch.from_numpy(targets).to(plan.device)
            with plan.autocast():
                hidden, _ = model.hidden(ids)
                nats = token_nats(hidden.flatten(0, 1), model.head_weight, labels.flatten())
            yield ScoredBatch(rows, inputs, targets, hidden, nats.view(labels.shape).double().cpu().numpy(), head)
    finally:
        model.train(training)


def score_windows(model: LanguageModel, windows: ScoringWindows, plan: ExecutionPlan) -> np.ndarray:
    """Nats of every target, float64 [N, context], zero where the target is padding."""
    nats = np.zeros(windows.targets.shape)
    for batch in scored_batches(model, windows, plan):
        nats[batch.rows, : batch.nats.shape[1]] = batch.nats
    return nats


def mean_nats(model: LanguageModel, windows: ScoringWindows, plan: ExecutionPlan) -> float:
    """Nats per token over all targets of `windows`."""
    return float(score_windows(model, windows, plan).sum() / (windows.targets != IGNORED).sum())
