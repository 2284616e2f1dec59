"""The worked example of a mixer of one's own: short, sound, and compared with gpt1 by its script."""

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from assay.audit.contract.architecture import CHECKS
from assay.audit.contract.models import ids_for
from assay.model.accounting import count_parameters
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.sizing import Decoding, build_on_meta
from assay.ops.cross_entropy import summed_nats
from assay.plugins.loading import load_plugin
from assay.study.asked import StudyConfig
from assay.study.resolve import resolve_arms
from study.made_up import write_corpus

FOLDER = Path(__file__).parents[2] / "experiments/own_mixer"


@pytest.fixture(autouse=True)
def _the_registry_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ARCHITECTURES.names()
    monkeypatch.setattr(ARCHITECTURES, "_items", dict(ARCHITECTURES._items))
    yield
    for name in [name for name in sys.modules if name.startswith("assay_plugin_my_mixer")]:
        del sys.modules[name]


def test_the_file_is_short() -> None:
    assert len((FOLDER / "my_mixer.py").read_text(encoding="utf-8").splitlines()) <= 63


def test_it_keeps_what_assay_check_asks() -> None:
    load_plugin(FOLDER / "my_mixer.py")
    found = [check(ARCHITECTURES.get("moving-average")) for check in CHECKS]
    assert [finding.explanation for finding in found if finding.status in ("fail", "warn")] == []


def test_its_memories_start_at_2_to_100_tokens_and_it_learns() -> None:
    load_plugin(FOLDER / "my_mixer.py")
    architecture = ARCHITECTURES.get("moving-average")
    model = build_model(architecture, architecture.config.parse(architecture.tiny), 0)
    keep = torch.sigmoid(model.get_parameter("blocks.0.mixer.memory"))
    assert (1 / (1 - keep))[[0, -1]].tolist() == pytest.approx([2, 100], rel=1e-4)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    ids = ids_for(model)
    for _ in range(12):
        optimizer.zero_grad()
        hidden, _ = model.hidden(ids[:, :-1])
        loss = summed_nats(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten()) / ids[:, 1:].numel()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


def test_both_scales_are_studies_of_two_arms_that_differ_in_the_mixer_alone() -> None:
    load_plugin(FOLDER / "my_mixer.py")
    script = runpy.run_path(str(FOLDER / "run.py"))
    for smoke in (True, False):
        config = StudyConfig.parse({"arms": script["ARMS"], **script["protocol"]("stdlib", "bytes", smoke)})
        arms = list(resolve_arms(config, 256, Decoding(128, 4)))
        assert {arm.config.body for arm in arms} == {"common"}
        sizes = [count_parameters(build_on_meta(arm.architecture, arm.config)).blocks_and_head or 0 for arm in arms]
        assert smoke or max(sizes) / min(sizes) < 1.01


@pytest.mark.slow
def test_the_script_compares_it_with_gpt1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, out = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    options = ["--scale", "smoke", "--json", "--corpus", f"text:{corpus}", "--tokenizer", "bytes", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["run.py", *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / "run.py"), run_name="__main__")
    assert ended.value.code == 0
    study = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {arm["architecture"] for arm in study["arms"]} == {"gpt1", "moving-average"}
    assert all(arm["test"]["nats_per_token"]["mean"] < 5.5 for arm in study["arms"])
    assert study["chains_equal"]
    assert (out / "report.html").exists()
