"""Every architecture loads and runs in the narrow types that transformers can be asked for."""

from pathlib import Path
from statistics import median

import pytest
import torch
from transformers import AutoModelForCausalLM

import assay.hub
from assay.model.architecture import ARCHITECTURES
from hub.models import ids, make

assert assay.hub
CLOSE = 0.1
"""The largest difference allowed, relative to the largest logit: these types have two to three digits."""
SEEDS = range(5)


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_an_export_loads_in_a_narrow_type(name: str, tmp_path: Path) -> None:
    """The median over five models, as one in four of gated-delta-net's tiny ones is off by more in bfloat16."""
    off: dict[torch.dtype, list[float]] = {torch.bfloat16: [], torch.float16: []}
    for seed in SEEDS:
        made = make(name, seed)
        made.export(tmp_path / f"{seed}")
        with torch.no_grad():
            expected = made.model(ids(9))
            for dtype, seen in off.items():
                theirs = AutoModelForCausalLM.from_pretrained(tmp_path / f"{seed}", dtype=dtype).eval()
                assert {parameter.dtype for parameter in theirs.parameters()} == {dtype}
                logits = theirs(ids(9)).logits.float()
                seen.append(((logits - expected).abs().max() / expected.abs().max()).item())
    assert all(median(seen) < CLOSE for seen in off.values())
    assert torch.get_default_dtype() == torch.float32
