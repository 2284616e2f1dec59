"""The built wheel, installed and not editable: it answers, and it renders a report, so its templates are in it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from assay import records
from assay.records import Arm, CurvePoint, Flops, Interval, Parameters, RunRecord, StudyRecord

ROOT = Path(__file__).parents[2]
PARAMETERS = Parameters(total=1000, embedding=400, non_embedding=600)
RENDER = """
import sys
from pathlib import Path
import assay.report.page
from assay.records import MeasuredRun, RunRecord, StudyRecord
folder = Path(sys.argv[1])
print(assay.report.page.__file__)
study, run = StudyRecord.read(folder / "study.json"), RunRecord.read(folder / "record.json")
print(assay.report.page.write_report(study, [MeasuredRun(run)], {}, folder))
"""


def run_record() -> RunRecord:
    return RunRecord(
        label="gpt1",
        architecture="gpt1",
        seed=0,
        status="finished",
        steps=2,
        tokens=1024,
        parameters=PARAMETERS,
        flops_per_token=Flops(forward=2000, training=6000),
        state_bytes=512,
        dimensions={"d_model": 32},
        training_curve=[CurvePoint(step=step, tokens=512 * step, nats_per_token=4.0 / step) for step in (1, 2)],
        validation_curve=[],
        train_tokens_per_second=1000.0,
        peak_memory_bytes=None,
        data_chain="0" * 64,
        forms={},
        interruptions=0,
        chain_broken=None,
        corpus_digest="1" * 64,
        environment={"python": "3.11"},
    )


def study_record() -> StudyRecord:
    score = Interval(mean=2.0, low=None, high=None)
    arm = Arm(
        label="gpt1",
        architecture="gpt1",
        seeds=[0],
        diverged=0,
        rank=1,
        parameters=PARAMETERS,
        flops_per_token=2000,
        state_bytes=512,
        test=records.TestScores(nats_per_token=score, perplexity=score, bits_per_byte=None),
        peak_memory_bytes=None,
        data_chain="0" * 64,
    )
    return StudyRecord(
        headline=["one seed: nothing is resolved"],
        ranked=True,
        not_ranked_because=None,
        protocol={},
        arms=[arm],
        pairs=[],
        floors={},
        tokens_per_parameter=1.0,
        chains_equal=True,
        matched_within=0.0,
        corpus={"name": "stdlib"},
        environment={"python": "3.11"},
        report=None,
    )


def call(*command: str, folder: Path, **environment: str) -> str:
    """Standard output of a command that must succeed, run in `folder`."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_wheel_works_where_it_is_installed(tmp_path: Path) -> None:
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), folder=ROOT)
    (wheel,) = tmp_path.glob("assay-*.whl")
    packaged = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("assay/")}
    source = ROOT / "src"
    files = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert packaged == {path.relative_to(source).as_posix() for path in files}

    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    call(*pip, "--target", str(target), str(wheel), folder=tmp_path)
    path = str(target)
    script = target / ("Scripts" if os.name == "nt" else "bin") / "assay"
    assert "compare" in call(str(script), "--help", folder=tmp_path, PYTHONPATH=path)

    study_record().write(tmp_path / "study.json")
    run_record().write(tmp_path / "record.json")
    output = call(sys.executable, "-c", RENDER, str(tmp_path), folder=tmp_path, PYTHONPATH=path)
    module, page = map(Path, output.splitlines())
    assert module.is_relative_to(target)
    assert "gpt1" in page.read_text(encoding="utf-8")
