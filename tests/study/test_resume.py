"""A run that is interrupted anywhere and run again ends in the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from assay.records import MeasurementResult, RunRecord
from assay.study.asked import StudyConfig
from assay.study.run import train
from assay.training.loop import StepEvent
from assay.training.memory import PeakMemory
from study.made_up import Make


class Crash(BaseException):
    """Stands for the death of the process: nothing catches it."""


def go(config: StudyConfig, folder: Path, crash_at: int | None = None) -> RunRecord:
    """Train, or die after step `crash_at`."""

    def observe(event: StepEvent) -> None:
        if event.step == crash_at:
            raise Crash

    return train(config, folder, lambda _: None, [observe]).record


def values(path: Path) -> dict[str, Any]:
    """What was measured, exactly."""
    return dict(MeasurementResult.read(path).values)


def weights(folder: Path) -> bytes:
    return (folder / "checkpoint" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("architecture", ["gpt1", "rwkv6", "mamba2"])
def test_interrupted_equals_uninterrupted(architecture: str, make: Make, tmp_path: Path) -> None:
    config = make((architecture,), training={"checkpoint_interval": 3})
    whole = go(config, tmp_path / "whole")
    for step in (1, 3, 4, 8, 11):
        with pytest.raises(Crash):
            go(config, tmp_path / "parts", step)
    parts = go(config, tmp_path / "parts")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert parts.interruptions == 3, "resumes in the history of the weights: from steps 3, 6 and 9"
    assert parts.chain_broken is None
    assert parts.data_chain == whole.data_chain
    assert parts.training_curve == whole.training_curve
    assert parts.validation_curve == whole.validation_curve
    for name in ("likelihood", "signals", "output_health"):
        path = f"measurements/{name}.json"
        assert values(tmp_path / "parts" / path) == values(tmp_path / "whole" / path)


def test_memory_is_of_all_parts_of_a_run_or_unknown(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has carried out other runs measures none, and its part may have been the largest."""
    if not PeakMemory("cpu").measurable:
        pytest.skip("the high-water mark cannot be reset here")
    config = make(training={"checkpoint_interval": 3})
    for used in ((False, False), (False, True), (True, False)):
        folder = tmp_path / str(used)
        monkeypatch.setattr(PeakMemory, "used", used[0])
        with pytest.raises(Crash):
            go(config, folder, 5)
        monkeypatch.setattr(PeakMemory, "used", used[1])
        assert (go(config, folder).peak_memory_bytes is None) == any(used)


def test_chains_do_not_move_with_validation_precision_or_architecture(make: Make, tmp_path: Path) -> None:
    short = {"tokens": 5 * 256}
    configs = [
        make(training=short),
        make(training={**short, "validation_interval": 2, "validation_tokens": 256}),
        make(training=short, execution={"precision": "bfloat16"}),
        make(("mamba2",), training=short),
        make(training={**short, "micro_batch_tokens": 64}),
    ]
    chains = set()
    for index, config in enumerate(configs):
        chains.add(go(config, tmp_path / str(index)).data_chain)
    assert len(chains) == 1
    assert go(make(seeds=(7,), training=short), tmp_path / "other").data_chain not in chains


def test_accumulation_changes_no_more_than_rounding(make: Make, tmp_path: Path) -> None:
    go(make(), tmp_path / "whole")
    go(make(training={"micro_batch_tokens": 64}), tmp_path / "parts")
    whole, parts = (values(tmp_path / name / "measurements/likelihood.json") for name in ("whole", "parts"))
    assert parts["nats_per_token"] == pytest.approx(whole["nats_per_token"], abs=2e-3)


@pytest.mark.parametrize("death", range(6))
def test_a_death_inside_a_checkpoint_leaves_one_whole(
    death: int, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die at the n-th file operation of the second checkpoint; the run still ends as it should."""
    config = make(training={"checkpoint_interval": 4})
    go(config, tmp_path / "whole")
    calls = {"rename": 0, "rmtree": 0}
    rename, rmtree = Path.rename, shutil.rmtree

    def die(name: str) -> None:
        calls[name] += 1
        if (name, calls[name]) == [
            ("rename", 2),
            ("rename", 3),
            ("rmtree", 3),
            ("rmtree", 4),
            ("rmtree", 5),
            ("rename", 4),
        ][death]:
            raise Crash

    def dying_rename(self: Path, target: Path) -> Path:
        die("rename")
        return rename(self, target)

    def dying_rmtree(path: Path, ignore_errors: bool = False) -> None:
        die("rmtree")
        rmtree(path, ignore_errors=ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying_rename)
        patch.setattr(shutil, "rmtree", dying_rmtree)
        with pytest.raises(Crash):
            go(config, tmp_path / "parts")
    go(config, tmp_path / "parts")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_half_a_line_of_metrics_is_dropped(make: Make, tmp_path: Path) -> None:
    config = make(training={"checkpoint_interval": 3})
    with pytest.raises(Crash):
        go(config, tmp_path / "out", 8)
    metrics = tmp_path / "out" / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write('{"step": 9, "tok')
    go(config, tmp_path / "out")
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == list(range(1, 13))


@pytest.mark.slow
def test_killed_at_random_moments(make: Make, tmp_path: Path) -> None:
    """SIGKILL a real process at random moments between its first step and its last, then let it finish."""
    config = make(("gpt1", "rwkv6", "mamba2"), training={"tokens": 60 * 256, "checkpoint_interval": 5})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    shared = [sys.executable, "-m", "assay", "compare", "--config", "config.yaml"]
    command = [*shared, "--out", "parts"]
    random_moment = random.Random(0)
    kills = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A process of its own too: there ops run in C++ where they can, and in those of tests they do not.
    subprocess.run([*shared, "--out", "whole"], cwd=tmp_path, check=False, capture_output=True, env=environment)
    for _ in range(8):
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stderr is not None
            # The last preparation line comes just before the first step of the run at hand.
            for line in process.stderr:
                if "steps" in line:
                    break
            time.sleep(random_moment.uniform(0.1, 2.0))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            kills += 1
    subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, env=environment)
    assert kills >= 5
    runs = sorted(path.name for path in (tmp_path / "whole" / "runs").iterdir())
    assert len(runs) == 3
    for run in runs:
        assert weights(tmp_path / "parts" / "runs" / run) == weights(tmp_path / "whole" / "runs" / run)
