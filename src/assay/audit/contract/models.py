"""The small models that contract checks run, and `Reasons`, which collects a check's numbered reasons for failing."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from assay.audit.redraw import redrawn
from assay.model.architecture import Architecture, build_model
from assay.model.lm import LanguageModel
from assay.ops.execution import Execution
from assay.records import Finding, Status

TOKENS, ROWS = 37, 3
"""Tokens and rows of a batch. No width of a small model has these values, so that axes cannot be confused."""
FORMS = (Execution("loop"), Execution("chunked", 16), Execution("chunked", 32), Execution("chunked", 64))
CLOSE = 1e-9
"""The largest difference that counts as rounding, relative to the largest logit, in float64."""


def smallest(architecture: Architecture, seed: int = 0, options: Mapping[str, Any] | None = None) -> LanguageModel:
    """The model of the architecture's `tiny` configuration, with `options` over it, as initialised."""
    return build_model(architecture, architecture.config.parse({**architecture.tiny, **(options or {})}), seed)


def smallest_redrawn(architecture: Architecture, options: Mapping[str, Any] | None = None) -> LanguageModel:
    """The same model in eval mode with all weights redrawn, as weights that are zero would hide what is behind them."""
    return redrawn(smallest(architecture, 0, options), torch.Generator().manual_seed(1)).eval()


def on_both_weights(architecture: Architecture) -> Iterator[tuple[str, LanguageModel]]:
    """(name of the weights, model) in float64 and eval mode: with the weights as initialised, and redrawn."""
    yield "weights as given", smallest(architecture).double().eval()
    yield "weights redrawn", smallest_redrawn(architecture).double()


def ids_for(model: LanguageModel, rows: int = ROWS, tokens: int = TOKENS) -> Tensor:
    """Random ids [rows, tokens]; fewer tokens where the model has fewer positions."""
    tokens = min(tokens, model.max_positions or tokens)
    return torch.randint(model.vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(3))


def difference(y: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected value; NaN if there is a NaN."""
    return ((y - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()


class Reasons:
    """Collects what a check finds wrong, each reason under its number in the check's docstring."""

    def __init__(self) -> None:
        self.found: dict[int, str] = {}
        self.largest = 0.0

    def note(self, number: int, words: str) -> None:
        """Add a reason; of several with one number the first stays."""
        self.found.setdefault(number, words)

    def note_if_far(self, number: int, off: float, words: str) -> None:
        """Add a reason where `off`, a relative difference, is NaN or more than rounding."""
        self.largest = max(self.largest, off) if off == off else off
        if not off <= CLOSE:
            self.note(number, f"{words}, by {off:.2g} of the largest logit")

    def finding(self, check: str, passed: str, status: Status = "fail") -> Finding:
        """A finding of `status` that lists all reasons in order; without reasons, a pass that says `passed`."""
        words = "; ".join(f"{number}. {self.found[number]}" for number in sorted(self.found))
        return Finding(check=check, status=status if words else "pass", explanation=words or passed)
