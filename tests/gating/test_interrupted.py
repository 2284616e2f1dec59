"""A gate that is killed, at any moment, goes on as if it had not been: no leftover stops it, nothing is timed twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.errors import RequestError
from assay.gating.carry_out import refuse_other_files
from assay.records import is_part, write_whole
from assay.records.gate import GateRecord
from assay.study.folder import stored_config

PART = ".plan.json." + 32 * "a"
OPTIONS = (
    "gpt2 --against gpt1 --sizes 16k,32k --seeds 2 --tokens-per-parameter 0.1 --workers 1 --tokenizer bytes "
    "--schedule wsd "
    "--context 32 --batch-tokens 256 --lr 1e-3,3e-3,1e-2 --set execution.threads=1 --set evaluation.test_tokens=512 "
    "--set training.validation_tokens=512"
)
MOMENTS = (
    "timings.json",
    "pilot-16k",
    "plan",
    "tuning-16k",
    "check-32k",
    "sanity-16k",
    "judged-16k",
    "branches-32k",
    "judged-64k",
)
"""A gate is killed within a second or two after each of these appears in its folder."""


def test_what_a_kill_leaves_of_a_file_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        seen.extend(path.name for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    seen: list[str] = []
    monkeypatch.setattr("assay.records.versioned.os.replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "plan.json", b"{}")
    assert len(seen) == 1
    assert is_part(seen[0])
    assert not any(is_part(name) for name in ("plan.json", ".plan.json", ".lock", 40 * "a"))


def test_a_file_that_was_being_written_stops_neither_a_gate_nor_a_study(tmp_path: Path) -> None:
    (tmp_path / PART).write_text("{")
    (tmp_path / ".timing").mkdir()
    (tmp_path / "timings.json").write_text("{}")
    refuse_other_files(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match=r"notes\.txt"):
        refuse_other_files(tmp_path)
    stage = tmp_path / "tuning-16k"
    stage.mkdir()
    (stage / PART).write_text("version")
    assert stored_config(stage, "study") is None


def started(out: Path, text: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "assay", "gate", *OPTIONS.split(), "--corpus", f"text:{text}", "--out", str(out)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )  # fmt: skip


def killed_after(process: "subprocess.Popen[bytes]", out: Path, moment: str, seconds: float) -> bool:
    """SIGKILL to the process and its workers, so long after `moment` has come; False where it ended before."""
    while process.poll() is None:
        names = os.listdir(out) if out.exists() else []
        if moment == "plan" and any(name.startswith((".plan.json", "plan.json")) for name in names):
            break
        if moment in names:
            time.sleep(seconds)
            break
        time.sleep(0.0005)
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def untimed(out: Path) -> list[object]:
    """All that a verdict says but for what was timed."""
    record = GateRecord.read(out / "gate.json")
    verdicts = [
        (of.label, of.verdict, of.trend, [gain for gain in of.gains if gain.per != "seconds"]) for of in record.verdicts
    ]
    return [record.verdict, verdicts, [(arm.label, arm.size, arm.rate, arm.losses) for arm in record.arms]]


@pytest.mark.slow
def test_a_gate_killed_again_and_again_has_the_same_weights_and_verdict(tmp_path: Path) -> None:
    generator = random.Random(0)
    text = tmp_path / "text"
    text.mkdir()
    for number in range(40):
        words = generator.choices(["to", "be", "or", "not", "that", "is", "the", "question"], k=600)
        (text / f"{number}.txt").write_text(" ".join(words))
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert started(whole, text).wait() in (0, 1, 3)
    kills = sum(
        killed_after(started(torn, text), torn, moment, generator.uniform(0, 2) if moment != "plan" else 0)
        for moment in MOMENTS
    )
    assert kills >= 6
    timings = (torn / "timings.json").read_bytes()
    assert started(torn, text).wait() in (0, 1, 3)
    assert (torn / "timings.json").read_bytes() == timings
    weights = [{path.relative_to(of): path.read_bytes() for path in of.rglob("*.safetensors")} for of in (whole, torn)]
    assert weights[0]
    assert weights[0] == weights[1]
    assert untimed(whole) == untimed(torn)
    assert json.loads((torn / "plan.json").read_bytes())["sizes"] == [16_000, 32_000]
