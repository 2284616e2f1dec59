"""Each verb does what it says: results on standard output, progress on standard error."""

import json
from pathlib import Path
from typing import Any

import pytest

from assay import __version__
from assay.model.architecture import ARCHITECTURES
from assay.records import MeasuredRun, Results, StudyRecord
from cli.command import Assay

PLUGIN = '''
"""A mixer of somebody's own: the mean of all tokens so far, through one matrix."""

from typing import NamedTuple

import torch
from torch import nn

import assay
from assay.layers.basic import GeluMLP, uniform_fan_in_
from assay.layers.mixer import SequenceLayer
from assay.model.architecture import Architecture, ModelConfig, Scale


class MeanState(NamedTuple):
    total: torch.Tensor
    count: int


class RunningMean(SequenceLayer):
    def __init__(self, d_model):
        super().__init__()
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None, shared=None):
        total, count = state or self.initial_state(len(x))
        sums = total[:, None] + x.cumsum(1)
        counts = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None] + count
        return self.output(sums / counts), MeanState(sums[:, -1], count + x.shape[1])

    def initial_state(self, batch, capacity=None):
        return MeanState(self.output.weight.new_zeros(batch, self.output.in_features), 0)

    def reset_parameters(self, generator):
        uniform_fan_in_(self.output.weight, generator)

    def residual_outputs(self):
        return (self.output.weight,)

    def flops_per_token(self, context):
        return 2 * self.output.weight.numel() + 2 * self.output.in_features

    def state_bytes(self, context, bytes_per_element):
        return self.output.in_features * bytes_per_element


assay.register(
    Architecture(
        name="running-mean",
        summary="the mean of all tokens so far",
        citation="nobody",
        config=ModelConfig,
        mixer=lambda config, _: RunningMean(config.d_model),
        channel_mixer=lambda config, _: GeluMLP(config.d_model, config.d_ff or 4 * config.d_model),
        scale=Scale(8, lambda width: width / 16, "d_ff", 4, lambda width: 4 * width),
        tiny={"d_model": 32, "n_layers": 2, "vocab_size": 61},
    )
)
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file; what it registers is forgotten after the test."""
    ARCHITECTURES.names()
    monkeypatch.setattr(ARCHITECTURES, "_items", dict(ARCHITECTURES._items))
    path = tmp_path / "my_mixer.py"
    path.write_text(PLUGIN)
    return str(path)


def last_line(out: str) -> dict[str, Any]:
    value = json.loads(out.splitlines()[-1])
    assert isinstance(value, dict)
    return value


def test_version_and_help(assay: Assay) -> None:
    assert assay("--version").out == f"assay {__version__}\n"
    for arguments in ([], ["--help"]):
        got = assay(*arguments)
        assert got.status == 0
        assert got.err == ""
        assert all(verb in got.out for verb in ("compare", "train", "list", "describe", "report"))
    assert "--batch-tokens" in assay("compare", "--help").out


def test_list(assay: Assay) -> None:
    shown = assay("list")
    axes = last_line(assay("list", "--json").out)
    assert axes.keys() == {"architectures", "corpora", "tasks", "measurements"}
    assert "recall" in axes["measurements"]
    assert set(axes["architectures"]) == set(ARCHITECTURES.names())
    assert "stdlib" in axes["corpora"]
    assert all(name in shown.out for axis in axes.values() for name in axis)


def test_describe_counts_document_000(assay: Assay) -> None:
    dimensions = ["heads=tied", "vocab_size=16000", "d_model=144", "n_layers=8", "n_heads=4"]
    options = [part for text in dimensions for part in ("--set", text)]
    facts = last_line(assay("describe", "gpt1", *options, "--json").out)
    assert facts["parameters"]["total"] == 4_370_832
    assert facts["parameters"]["embedding"] + facts["parameters"]["non_embedding"] == 4_370_832
    assert facts["flops_per_token"]["training"] == 3 * facts["flops_per_token"]["forward"]
    assert facts["state_bytes"] == 8 * 2 * 256 * 144 * 4
    assert facts["dimensions"]["vocab_size"] == 16000
    assert "4,370,832" in assay("describe", "gpt1", *options).out
    whole_paths = [text if text == "--set" else f"model.{text}" for text in options]
    assert last_line(assay("describe", "gpt1", *whole_paths, "--json").out) == facts
    of_the_arm = [text if text == "--set" else f"model.gpt1.{text}" for text in options]
    assert last_line(assay("describe", "gpt1", *of_the_arm, "--json").out) == facts


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_describe_says_everything_of_every_architecture(assay: Assay, name: str) -> None:
    item = ARCHITECTURES.get(name)
    small = ["--size", "200k", "--set", "vocab_size=258"]
    facts = last_line(assay("describe", name, *small, "--context", "64", "--json").out)
    assert facts["parameters"]["blocks_and_head"] == pytest.approx(200_000, rel=0.01)
    totals = last_line(assay("describe", name, *small, "--match", "total", "--json").out)
    assert totals["parameters"]["total"] == pytest.approx(200_000, rel=0.01)
    assert (facts["heads"], facts["published_heads"]) == ("untied", item.published_head)
    assert facts["optimizer"]["embedding.tokens"] == {
        "decay": item.embedding_decay,
        "rate_factor": 1.0,
        "matrix": False,
    }
    assert facts["context"] == 64
    assert facts["state_bytes"] > 0
    assert sum(facts["parameters"]["groups"].values()) == facts["parameters"]["total"]
    shown = assay("describe", name)
    assert shown.status == 0
    assert item.citation[:30] in shown.out
    assert "embedding.tokens" in shown.out


def test_train(assay: Assay) -> None:
    first = assay("train", "gpt1", "--seed", "3", *assay.small, "--out", "run", "--json")
    assert first.status == 0
    record = last_line(first.out)
    assert len(first.out.splitlines()) == 1
    assert (record["architecture"], record["seed"], record["status"], record["steps"]) == ("gpt1", 3, "finished", 2)
    assert record["folder"] == "run"
    assert any("2 steps" in line for line in first.lines)
    stored = MeasuredRun.read(assay.cwd / "run")
    assert stored.record.model_dump(mode="json").items() <= record.items()
    again = assay("train", "gpt1", "--seed", "3", *assay.small, "--out", "run")
    assert again.status == 0
    assert again.lines == ["run: finished before; shown again, nothing is trained"]
    assert stored.scores is not None
    assert record["measurements"]["likelihood"]["nats_per_token"] == stored.scores.nats_per_token
    assert f"{stored.scores.nats_per_token:.4f} nats per token" in again.out


def test_settings_reach_the_run(assay: Assay) -> None:
    """Options, --set by last part and by whole path, and a file; later ones win."""
    (assay.cwd / "my.yaml").write_text("training: {weight_decay: 0.5, tokens: 9999}\nmodel: {max_positions: 96}\n")
    more = ["--set", "learning_rate=3e-4", "--set", "training.clip_norm=null", "--lr", "1", "--init", "blinkdl"]
    assert assay("train", "gpt1", "--config", "my.yaml", *assay.small, *more, "--out", "run").status == 0
    text = (assay.cwd / "run" / "config.yaml").read_text()
    for line in ("learning_rate: 0.0003", "clip_norm: null", "weight_decay: 0.5", "tokens: 512", "max_positions: 96"):
        assert f"  {line}\n" in text
    assert "initialisation: blinkdl" in text


def test_compare_and_report(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is replaced by a stand-in; it is tested in tests/report."""

    def page(record: StudyRecord, runs: list[MeasuredRun], results: Results, folder: Path) -> Path:
        said = f"{len(record.arms)} arms, {len(runs)} runs, {len(results)} results"
        (folder / "report.html").write_text(said)
        return folder / "report.html"

    monkeypatch.setattr("assay.study.conclude.write_report", page)
    monkeypatch.setattr("assay.report.page.write_report", page)
    monkeypatch.setattr("assay.study.compare.measure_floors", lambda _: {})  # two steps beat none
    command = ["compare", "gpt1", "mamba2", "--seeds", "1,4", *assay.tokens, "--size", "30k", "--out", "study"]
    done = assay(*command, "--json")
    assert done.status == 0
    said = last_line(done.out)
    assert {arm["architecture"] for arm in said["arms"]} == {"gpt1", "mamba2"}
    assert all(arm["seeds"] == [1, 4] for arm in said["arms"])
    assert said["ranked"]
    assert (said["folder"], said["report"]) == ("study", "study/report.html")
    assert len(done.out.splitlines()) == 1
    assert [line for line in done.lines if line.startswith("mamba2-seed4 (3 of 4): 2 steps")]
    again = assay(*command)
    assert (again.status, again.lines) == (0, ["study: finished before; shown again, nothing is trained"])
    assert "study/report.html" in again.out
    (assay.cwd / "study" / "report.html").unlink()
    report = assay("report", "study")
    assert report.status == 0
    assert report.out == again.out
    assert (assay.cwd / "study" / "report.html").read_text() == "2 arms, 4 runs, 1 results"
    assert last_line(assay("report", "study", "--json").out) == said


def test_a_plugin_is_an_architecture_like_any_other(assay: Assay, plugin: str) -> None:
    assert "running-mean" not in assay("list").out
    assert "running-mean" in last_line(assay("list", "--plugin", plugin, "--json").out)["architectures"]
    facts = last_line(assay("describe", "running-mean", "--plugin", plugin, "--size", "300k", "--json").out)
    assert facts["parameters"]["blocks_and_head"] == pytest.approx(300_000, rel=0.01)
    trained = assay("train", "running-mean", "--plugin", plugin, *assay.small, "--json")
    assert trained.status == 0
    assert last_line(trained.out)["status"] == "finished"


def test_a_negative_finding_is_status_one(assay: Assay) -> None:
    wild = ["--lr", "1e4", "--schedule", "constant", "--set", "clip_norm=null", "--set", "warmup_share=0"]
    got = assay("train", "gpt1", *assay.small, *wild, "--tokens", "10k", "--json")
    assert got.status == 1
    assert last_line(got.out)["status"] == "diverged"


def test_variants_are_described_and_audited(assay: Assay) -> None:
    facts = last_line(assay("describe", "rwkv6:head_dim=16,d_model=64", "--json").out)
    assert (facts["dimensions"]["head_dim"], facts["dimensions"]["d_model"]) == (16, 64)
    sized = last_line(assay("describe", "x=gpt1:n_layers=3", "--size", "300k", "--json").out)
    assert sized["dimensions"]["n_layers"] == 3
    assert sized["parameters"]["blocks_and_head"] == pytest.approx(300_000, rel=0.01)
    report = last_line(assay("audit", "gpt1:d_model=32,n_layers=1,n_heads=2", "--json").out)
    assert report["sound"]
    wrong = assay("audit", "gpt1:head=2")
    assert (wrong.status, len(wrong.lines)) == (2, 1)
    assert "gpt1:head=2: head: no dimension of gpt1" in wrong.err


def test_runs_are_listed_with_what_they_asked(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.study.conclude.write_report", lambda *_: None)
    monkeypatch.setattr("assay.study.compare.measure_floors", lambda _: {})
    less = ["--set", "measurements=[]"]
    assert assay("compare", "gpt1", "slow=gpt1:lr=1e-4", "--seeds", "2", *assay.small, *less).status == 0
    assert assay("train", "mamba2", "--seed", "5", *assay.small).status == 0
    (assay.cwd / "runs" / "other").mkdir()
    (assay.cwd / "runs" / "broken").mkdir()
    (assay.cwd / "runs" / "broken" / "config.yaml").write_text("arms: 3\n")
    entries = last_line(assay("list", "runs", "--json").out)["runs"]
    (study,) = [entry for entry in entries if entry["kind"] == "study" and entry["arms"]]
    assert (study["arms"], study["seeds"]) == (["gpt1", "slow"], [0, 1])
    shown = assay("list", "runs")
    assert shown.status == 0
    assert "study, finished, 4 runs" in shown.out
    assert "gpt1, slow; 2 seeds; 512 tokens of text:" in shown.out.replace("\n", "")
    assert "of 1 pairs resolved" in shown.out.replace("\n", " ")
    assert "run, finished" in shown.out
    assert "mamba2; seed 5" in shown.out
    assert "broken  study, unreadable" in shown.out
    one = next(path for path in (assay.cwd / "runs").iterdir() if path.name.startswith("compare"))
    assert len(last_line(assay("list", "runs", str(one), "--json").out)["runs"]) == 1
    for wrong in (["list", "rums"], ["list", "runs", "nowhere"], ["list", "corpora", "x"]):
        got = assay(*wrong)
        assert (got.status, len(got.lines)) == (2, 1)


def test_an_unsound_arm_is_a_negative_finding_and_stands_in_the_answer(
    assay: Assay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.study.conclude.write_report", lambda *_: None)
    monkeypatch.setattr("assay.study.compare.measure_floors", lambda _: {})
    small = [*assay.tokens, "--size", "40k", "--set", "model.groundthink-v7.pattern=GS", "--set", "measurements=[]"]
    command = ["compare", "gpt1", "groundthink-v7", "--seeds", "1", *small, "--out", "study"]
    got = assay(*command)
    assert got.status == 1, got.err
    start = "gpt1 is the only arm that can be ranked: groundthink-v7 reads the future."
    assert " ".join(got.out.split()).startswith(start)
    assert assay(*command).status == 1, "shown again too"
