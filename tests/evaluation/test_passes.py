"""A forward pass reads as many windows as its tokens allow, and fewer where what they carry is large."""

import pytest

from assay.evaluation import passes
from assay.evaluation.passes import windows_at_once
from evaluation.small import tiny


@pytest.mark.parametrize("name", ["mamba2", "gpt1"])
def test_states_and_caches_bound_it_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(name)
    assert [windows_at_once(model, tokens, 64) for tokens in (8, 32, 64, 100)] == [8, 2, 1, 1]
    carried = sum(layer.state_bytes(8, 4) for block in model.sequence_blocks() for layer in block.layers())
    monkeypatch.setattr(passes, "CARRIED_BYTES", 3 * carried)
    assert windows_at_once(model, 8, 64) == 3
    monkeypatch.setattr(passes, "CARRIED_BYTES", 1)
    assert windows_at_once(model, 8, 64) == 1
