"""Every architecture loads and runs in the narrow types that transformers can be asked for."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import assay.hub
from assay.model.architecture import ARCHITECTURES
from hub.models import ids, make

assert assay.hub
CLOSE = 0.1
"""Of the largest logit: the type has two to three digits."""


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_an_export_loads_in_a_narrow_type(name: str, tmp_path: Path) -> None:
    made = make(name)
    made.export(tmp_path / "out")
    with torch.no_grad():
        expected = made.model(ids(9))
        for dtype in (torch.bfloat16, torch.float16):
            theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=dtype).eval()
            assert {parameter.dtype for parameter in theirs.parameters()} == {dtype}
            off = (theirs(ids(9)).logits.float() - expected).abs().max() / expected.abs().max()
            assert off < CLOSE
    assert torch.get_default_dtype() == torch.float32
