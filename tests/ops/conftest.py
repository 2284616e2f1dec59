"""What tests of ops share: graphs that are compiled anew."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch


@pytest.fixture
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing compiled before or left behind, and no shapes checked by beartype, which no graph holds."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
