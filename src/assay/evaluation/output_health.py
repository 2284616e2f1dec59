"""What the output distribution looks like on held-out text: range, saturation, entropy, overconfidence."""

import math

import numpy as np
import torch

from assay.data.scoring import ScoringWindows
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import OutputHealth
from assay.targets import IGNORED

OVERCONFIDENT_NATS = 0.1
SATURATED = 0.99
ROWS = 4_194_304
"""Logits alive at once."""


@torch.no_grad()
def measure_output_health(
    model: LanguageModel, windows: ScoringWindows, plan: ExecutionPlan, max_tokens: int = 8_192
) -> OutputHealth:
    """Measure up to `max_tokens` targets of `windows`, first windows first.

    A calibrated model's mean loss equals its mean entropy; OVERCONFIDENT where the loss is more than 0.1 nats above.
    """
    rows = max(1, max_tokens // windows.inputs.shape[1])
    keep = windows.targets[:rows] != IGNORED
    ids = torch.from_numpy(windows.inputs[:rows]).to(plan.device)
    labels = torch.from_numpy(windows.targets[:rows][keep]).to(plan.device)
    training = model.training
    model.eval()
    with plan.autocast():
        hidden = model.hidden(ids)[0][torch.from_numpy(keep).to(plan.device)]
    model.train(training)
    parts = []
    size = max(1, ROWS // model.vocab_size)
    for h, target in zip(hidden.split(size), labels.split(size), strict=True):
        with plan.autocast():
            logits = model.head(h).float()
        log_p = logits.log_softmax(-1)
        parts.append(
            {
                "low": logits.min(-1).values,
                "high": logits.max(-1).values,
                "peak": log_p.max(-1).values.exp(),
                "entropy": -(log_p.exp() * log_p).sum(-1),
                "loss": -log_p.gather(-1, target[:, None])[:, 0],
            }
        )
    seen = {name: torch.cat([part[name] for part in parts]).double().cpu().numpy() for name in parts[0]}
    return _summarise(seen, model.vocab_size)


def _summarise(seen: dict[str, np.ndarray], vocab_size: int) -> OutputHealth:
    entropy = float(seen["entropy"].mean())
    excess = float(seen["loss"].mean()) - entropy
    return OutputHealth(
        logit_low=float(seen["low"].min()),
        logit_high=float(seen["high"].max()),
        max_probability=float(seen["peak"].max()),
        share_above_099=float((seen["peak"] > SATURATED).mean()),
        entropy_nats=entropy,
        entropy_share=entropy / math.log(vocab_size),
        loss_minus_entropy_nats=excess,
        verdict="OVERCONFIDENT" if excess > OVERCONFIDENT_NATS else "HEALTHY",
        document_000_verdict=document_000_verdict(float(seen["peak"].max()), entropy),
    )


def document_000_verdict(max_probability: float, entropy_nats: float) -> str:
    """The document's own rule, under its name: any probability above 0.99, then a mean entropy under two nats."""
    if max_probability > SATURATED:
        return "saturating"
    return "overconfident" if entropy_nats < 2.0 else "healthy"
