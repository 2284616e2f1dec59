"""`import assay.hub` registers with transformers whenever that is imported, and does not import it."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from assay.hub.registration import AfterImport


def test_an_action_follows_the_import_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "awaited_module.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[int] = []
    follow = AfterImport({"awaited_module": lambda: seen.append(sys.modules["awaited_module"].value)})
    monkeypatch.setattr(sys, "meta_path", [follow, *sys.meta_path])
    importlib.import_module("json.tool")
    assert seen == []
    module = importlib.import_module("awaited_module")
    assert (seen, module.value) == ([3], 3)
    importlib.reload(module)
    assert seen == [3]
    monkeypatch.delitem(sys.modules, "awaited_module")


def test_importing_the_package_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, assay.hub; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import assay.hub, transformers", "import transformers.models.auto, assay.hub"])
def test_either_order_registers(first: str) -> None:
    code = f"""{first}
from transformers import AutoConfig, AutoModelForCausalLM
config = AutoConfig.for_model("assay", architecture="gpt1", dimensions=dict(d_model=16, n_layers=1, vocab_size=11))
print(type(AutoModelForCausalLM.from_config(config)).__name__)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "AssayForCausalLM"
