"""Settings of every test: tensor shapes checked by beartype, one torch thread, a time limit, a cache of its own."""

import gc
import os
import time
from collections.abc import Generator
from pathlib import Path

import jaxtyping
import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
_hook = install_import_hook(["assay.ops", "assay.layers", "assay.model"], "beartype.beartype")
_hook.__enter__()

LIMIT_SECONDS = 10.0
CHECKED = {"contracts", "golden", "layers", "model", "ops", "parity", "training"}
"""Folders whose tests have shapes checked; the others run whole commands, of which it would take a third."""


def pytest_collection_finish() -> None:
    """Keep the objects that imports made out of garbage collections, which every training run starts with."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _shapes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check shapes where layers, operations and models are tested by themselves."""
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", folder not in CHECKED)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token caches go to one folder per worker, never to the user's; what was built of C++ is shared by all workers.

    Ops run in Python and torch's products stay torch's, whatever the processor: those in C++ have tests of their own.
    """
    own = tmp_path_factory.getbasetemp()
    cache, built = own / "assay-cache", (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "assay-native"
    if not cache.exists():
        built.mkdir(exist_ok=True)
        cache.mkdir()
        (cache / "native").symlink_to(built)
    monkeypatch.setenv("ASSAY_CACHE", str(cache))
    monkeypatch.setattr("assay.ops.native.matmul.slow_products", lambda: False)
    monkeypatch.setattr("assay.ops.native.kernels.KERNELS.ready", set())
    monkeypatch.setattr("assay.model.plan.types_here", list)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """One thread for every test; fail an unmarked one over the limit (processor seconds, as machines are noisy)."""
    before = time.process_time()
    try:
        result = yield
    finally:
        torch.set_num_threads(1)  # a command in this process may have taken more, which would slow all tests after it
    seconds = time.process_time() - before
    if seconds > LIMIT_SECONDS and item.get_closest_marker("slow") is None:
        pytest.fail(f"took {seconds:.1f} s; mark it slow or make it faster than {LIMIT_SECONDS:.0f} s")
    return result
