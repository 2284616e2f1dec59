"""Nats of a model on scoring windows: what validation during training and the likelihood afterwards both stand on."""

from collections.abc import Callable

import numpy as np
import torch

from assay.data.scoring import ScoringWindows
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.ops.cross_entropy import token_nats
from assay.targets import IGNORED

BATCH_TOKENS = 8_192
"""Tokens a forward pass when scoring; without gradients more fit than in training."""


@torch.no_grad()
def score_windows(
    model: LanguageModel, windows: ScoringWindows, plan: ExecutionPlan, tell: Callable[[float], None] | None = None
) -> np.ndarray:
    """Nats of every target, float64 [N, context], zero where the target is padding.

    The state starts afresh in each window for every architecture. `tell` hears the share done.
    """
    training = model.training
    model.eval()
    nats = np.zeros(windows.targets.shape)
    done = 0
    for rows, inputs, targets in windows.batches(max(1, BATCH_TOKENS // windows.inputs.shape[1])):
        ids, labels = torch.from_numpy(inputs).to(plan.device), torch.from_numpy(targets).to(plan.device)
        with plan.autocast():
            hidden, _ = model.hidden(ids)
            scores = token_nats(hidden.flatten(0, 1), model.head_weight, labels.flatten())
        nats[rows, : targets.shape[1]] = scores.view(labels.shape).double().cpu().numpy()
        done += len(rows)
        if tell is not None:
            tell(done / len(nats))
    model.train(training)
    return nats


def mean_nats(model: LanguageModel, windows: ScoringWindows, plan: ExecutionPlan) -> float:
    """Nats per token over all targets of `windows`."""
    return float(score_windows(model, windows, plan).sum() / (windows.targets != IGNORED).sum())
