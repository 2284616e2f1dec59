"""Runs in worker processes: the same bytes as here; a worker that dies is named and tried once more."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from assay.config import read_yaml
from assay.data.text.tokenizer import build_tokenizer
from assay.errors import RequestError, WorkerError
from assay.evaluation.measurement import MEASUREMENTS
from assay.records import MeasuredRun
from assay.study.asked import PluginFile, StudyConfig
from assay.study.compare import Silent, compare
from assay.study.executor.capacity import parse_workers
from assay.study.executor.execute import execute
from assay.study.executor.job import Job
from assay.study.executor.pool import Pool, _Task
from assay.study.executor.process import WorkerProcess
from assay.study.run import train
from assay.study.sources import takes_outside_code
from assay.training.loop import Observer, StepEvent
from report.factory import run as made_up_run
from study.made_up import Make, write_corpus

STEPS = 4
FAKE = """
import json, os, pathlib, signal, sys
event = {"nats_per_token": 1.0, "learning_rate": 1.0, "gradient_norm": 1.0, "seconds": 0.1, "chain": "", "tokens": 1,
         "validation_nats_per_token": None, "auxiliary": {}, "steps": 4}
for line in sys.stdin:
    request = json.loads(line)
    folder = pathlib.Path(request["folder"])
    log = open(request["log"], "a")
    plan = json.loads((folder / "plan.json").read_text())
    tries = folder / "tries"
    number = int(tries.read_text()) if tries.exists() else 0
    tries.write_text(str(number + 1))
    (folder / "pid").write_text(str(os.getpid()))
    with (folder / "metrics.jsonl").open("a") as metrics:
        for step in range(1, 5):
            metrics.write(json.dumps({**event, "step": step}) + "\\n")
            metrics.flush()
            if step == 3 and number < plan["dies"]:
                print("first line", file=log)
                print("out of luck", file=log, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
    if plan["says"]:
        print(plan["says"], file=log, flush=True)
        sys.exit(2)
    (folder / "record.json").write_text(plan["record"])
    if not plan["stays"]:
        sys.exit(0)
    print("noise", flush=True)
    print("done", request["number"], flush=True)
"""


class Heard(Silent):
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[str, int]] = []
        self.ended: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append(text)

    def step(self, name: str, event: StepEvent) -> None:
        self.steps.append((name, event.step))

    def run_finished(self, name: str, run: MeasuredRun) -> None:
        self.ended.append(name)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worker that needs no torch and dies as often as its folder's plan says."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    monkeypatch.setattr("assay.study.executor.process.COMMAND", (sys.executable, str(script)))
    return tmp_path


def job(
    folder: Path, name: str, dies: int = 0, says: str = "", only_here: str = "", stays: bool = True, alone: bool = False
) -> Job:
    place = folder / name
    record = made_up_run(name, 0)

    def prepare() -> None:
        place.mkdir(exist_ok=True)
        plan = {"dies": dies, "says": says, "stays": stays, "record": record.record.model_dump_json()}
        (place / "plan.json").write_text(json.dumps(plan))

    def here(_: Sequence[Observer]) -> MeasuredRun:
        return record

    def finished() -> MeasuredRun | None:
        return MeasuredRun.read(place) if (place / "record.json").exists() else None

    return Job(name, place, STEPS, finished, here, prepare, only_here, alone=alone)


def test_records_come_in_the_order_given_and_steps_are_heard(fake: Path) -> None:
    heard = Heard()
    records = execute([job(fake, name) for name in ("a", "b", "c")], 2, heard)
    assert [run.record.label for run in records] == ["a", "b", "c"]
    for name in ("a", "b", "c"):
        assert [step for of, step in heard.steps if of == name] == [1, 2, 3, 4]
    assert sorted(heard.ended) == ["a", "b", "c"]
    assert heard.lines == []
    assert not list(fake.rglob(".worker.log"))


def test_a_worker_that_dies_is_named_and_tried_once_more(fake: Path) -> None:
    heard = Heard()
    records = execute([job(fake, "a", dies=1), job(fake, "b")], 2, heard)
    assert [run.record.label for run in records] == ["a", "b"]
    assert heard.lines == [
        "a: its worker was killed by signal 9 (first line / out of luck); once more from its checkpoint"
    ]


def test_a_worker_that_dies_again_stops_nothing_else(fake: Path) -> None:
    heard = Heard()
    jobs = [job(fake, "a", dies=2), job(fake, "b"), job(fake, "c")]
    with pytest.raises(WorkerError, match=r"^a: its worker was killed by signal 9 2 times \(.*out of luck\);"):
        execute(jobs, 2, heard)
    assert sorted(heard.ended) == ["b", "c"]
    assert (fake / "a" / "tries").read_text() == "2"
    assert [run.record.label for run in execute(jobs, 2, heard)] == ["a", "b", "c"], "the same command tries again"


def test_a_worker_that_stays_gets_the_next_run(fake: Path) -> None:
    execute([job(fake, name) for name in ("a", "b", "c", "d", "e")], 2, Heard())
    assert len({(fake / name / "pid").read_text() for name in "abcde"}) == 2


def test_a_worker_that_ends_is_followed_by_another(fake: Path) -> None:
    execute([job(fake, name, stays=False) for name in ("a", "b", "c")], 2, Heard())
    assert len({(fake / name / "pid").read_text() for name in "abc"}) == 3


def test_a_run_that_must_be_alone_gets_a_new_worker(fake: Path) -> None:
    jobs = [job(fake, "a"), job(fake, "b", alone=True), job(fake, "c"), job(fake, "d")]
    Pool(jobs, 1, Heard()).go([0, 1, 2, 3])
    a, b, c, d = ((fake / name / "pid").read_text() for name in "abcd")
    assert a != b == c == d


def test_what_a_worker_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a start-up hook of the user's Python may do before the worker takes its output for answers."""
    script = (
        "import json, sys, time; print('hello'); print('done 2', flush=True); "
        "request = json.loads(sys.stdin.readline()); time.sleep(0.5); "
        "print('done', request['number'], flush=True); time.sleep(60)"
    )
    monkeypatch.setattr("assay.study.executor.process.COMMAND", (sys.executable, "-c", script))
    worker = WorkerProcess()
    worker.give(tmp_path)
    began = time.monotonic()
    try:
        while worker.status() is None:
            time.sleep(0.02)
        assert worker.waits
        assert time.monotonic() - began > 0.5
    finally:
        worker.kill()


def test_a_worker_that_dies_while_it_waits_costs_the_next_run_no_try(fake: Path) -> None:
    pool = Pool([job(fake, "a")], 1, Heard())
    waiting = WorkerProcess()
    (fake / "w").mkdir()
    waiting.give(fake / "w")
    assert waiting._process is not None
    waiting._process.kill()
    waiting._process.wait()
    pool.idle = [waiting]
    assert [run.record.label for run in pool.go([0]).values()] == ["a"]
    assert (fake / "a" / "tries").read_text() == "1"


def test_a_worker_that_dies_of_a_later_run_is_tried_anew_on_that_run_alone(fake: Path) -> None:
    heard = Heard()
    jobs = [job(fake, "a"), job(fake, "b", dies=1), job(fake, "c")]
    assert [run.record.label for run in Pool(jobs, 1, heard).go([0, 1, 2]).values()] == ["a", "c", "b"]
    assert [(fake / name / "tries").read_text() for name in "abc"] == ["1", "2", "1"]
    assert heard.lines == [
        "b: its worker was killed by signal 9 (first line / out of luck); once more from its checkpoint"
    ]
    assert (fake / "a" / "pid").read_text() != (fake / "c" / "pid").read_text()


@pytest.mark.parametrize(
    ("dies", "says"), [(2, ""), (0, "no such thing"), (0, "")], ids=["dies", "refuses", "finishes"]
)
def test_no_worker_is_left_when_the_runs_have_ended(fake: Path, dies: int, says: str) -> None:
    with contextlib.suppress(WorkerError, RequestError):
        execute([job(fake, "a"), job(fake, "b"), job(fake, "c", dies, says)], 2, Heard())
    for path in fake.glob("*/pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
    assert not list(fake.rglob(".worker.log"))


def test_a_wrong_request_is_said_and_not_tried_again(fake: Path) -> None:
    with pytest.raises(RequestError, match=r"^a: no such thing$"):
        execute([job(fake, "a", says="no such thing"), job(fake, "b")], 2, Heard())
    assert (fake / "a" / "tries").read_text() == "1"
    assert (fake / "b" / "record.json").exists()


def test_what_only_this_python_knows_runs_here_with_one_line(fake: Path) -> None:
    heard = Heard()
    why = "mine: needs what is registered in this Python only, so it runs in this process"
    jobs = [job(fake, "x", only_here=why), job(fake, "a"), job(fake, "b"), job(fake, "y", only_here=why)]
    assert [run.record.label for run in execute(jobs, 2, heard)] == ["x", "a", "b", "y"]
    assert heard.lines == [why]
    assert not (fake / "x").exists()


def test_the_longest_of_a_turn_begin_first(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of an arm before its first run has ended; a later turn waits for the earlier ones."""
    monkeypatch.setattr("assay.study.executor.pool.LAST_JOBS", 0)
    names = ["a0", "b0", "c0", "a1", "b1", "c1"]
    jobs = [replace(job(fake, name), arm=name[0], turn=int(name[1])) for name in names]
    pool = Pool(jobs, 2, Heard())
    pool.queue = [(index, 1) for index in (5, 4, 3, 2, 1, 0)]
    assert pool._next() == (2, 1), "the first of those that nothing is known of"
    pool.seconds = {"a": 3.0, "b": 9.0}
    pool.queue = [(0, 1), (1, 1), (3, 1), (4, 1), (5, 1)]
    order = [names[pool._next()[0]] for _ in range(5)]
    assert order == ["b0", "a0", "c1", "b1", "a1"]


def test_the_last_jobs_begin_as_workers_end_together(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn by turn the shortest begins last, when the other worker has nothing left."""
    seconds = {"r": 36.5, "g": 34.0, "t": 28.5}
    jobs = [replace(job(fake, f"{arm}{turn}"), arm=arm, turn=turn) for turn in range(5) for arm in "rgt"]

    def end() -> float:
        pool = Pool(jobs, 2, Heard())
        pool.queue = [(index, 1) for index in range(len(jobs)) if index not in (1, 2)]
        pool.seconds = seconds
        free = [45.0, 52.0]  # after t0 and g0
        while pool.queue:
            pool.active = [_Task(0, 1, jobs[0], WorkerProcess())]
            pool.active[0].began = time.monotonic() - seconds["r"] + max(free) - min(free)
            free[free.index(min(free))] += seconds[jobs[pool._next()[0]].arm]
        return max(free)

    ideal = (97 + 5 * sum(seconds.values()) - 62.5) / 2
    assert end() < ideal + 3
    monkeypatch.setattr("assay.study.executor.pool.LAST_JOBS", 0)
    assert end() > ideal + 12


def test_jobs_of_an_arm_keep_the_order_of_their_turns(fake: Path) -> None:
    jobs = [replace(job(fake, f"{arm}{turn}"), arm=arm, turn=turn) for turn in range(3) for arm in "ab"]
    pool = Pool(jobs, 2, Heard())
    pool.queue = [(index, 1) for index in (5, 2, 0, 3, 1, 4)]
    pool.seconds = {"a": 3.0, "b": 9.0}
    order = [jobs[pool._next()[0]] for _ in range(6)]
    for arm in "ab":
        assert [job.turn for job in order if job.arm == arm] == [0, 1, 2]


def test_an_interruption_ends_all_workers(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import json, os, pathlib, sys, time; folder = json.loads(sys.stdin.readline())['folder']; "
        "pathlib.Path(folder, 'pid').write_text(str(os.getpid())); time.sleep(60)"
    )
    monkeypatch.setattr("assay.study.executor.process.COMMAND", (sys.executable, "-c", script))
    polls = iter(range(1000))

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if len(list(fake.glob("*/pid"))) == 2 or next(polls) > 100:
            raise KeyboardInterrupt

    monkeypatch.setattr("assay.study.executor.pool.pause", sleep)
    with pytest.raises(KeyboardInterrupt):
        execute([job(fake, "a"), job(fake, "b")], 2, Heard())
    assert len(list(fake.glob("*/pid"))) == 2
    for path in fake.glob("*/pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_a_wrong_number_of_workers_is_one_line(text: str) -> None:
    with pytest.raises(RequestError, match=f"--workers {text}: auto, or a whole number above zero"):
        parse_workers(text)


def test_workers_here_and_elsewhere_end_in_the_same_bytes(make: Make, tmp_path: Path) -> None:
    """Two workers, each with two runs; this process; and `assay train --config` in another folder."""
    config = make(("gpt1", "rwkv6:dropout=0.1"), (0, 1), measurements=[], execution={"threads": None})
    config = config.model_copy(update={"training": config.training.model_copy(update={"tokens": 4 * 256})})
    for workers in (1, 2):
        compare(config, tmp_path / str(workers), workers=workers)
    runs = sorted(path.name for path in (tmp_path / "1" / "runs").iterdir())
    assert runs == sorted(path.name for path in (tmp_path / "2" / "runs").iterdir())
    for name in runs:
        first, second = (tmp_path / folder / "runs" / name for folder in ("1", "2"))
        assert weights(first) == weights(second)
    config_file = tmp_path / "1" / "runs" / runs[-1] / "config.yaml"
    command = [sys.executable, "-m", "assay", "train", "--config", config_file, "--out", "elsewhere"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert weights(tmp_path / "elsewhere") == weights(config_file.parent)


def test_a_run_with_code_from_outside_has_a_process_of_its_own(make: Make) -> None:
    """It may keep something from one run to the next, so that a run would not be what it is by itself."""
    config = make(("gpt1",), (0,), measurements=["likelihood"]).model_copy(update={"needs": {}})
    assert not takes_outside_code(config)
    assert takes_outside_code(config.model_copy(update={"needs": None})), "nobody knows"
    assert takes_outside_code(config.model_copy(update={"plugins": [PluginFile(path="mine.py")]}))
    assert takes_outside_code(config.model_copy(update={"needs": {"mine.py": "0" * 64}}))
    MEASUREMENTS.register("mine", MEASUREMENTS.get("likelihood"))
    try:
        assert takes_outside_code(config.model_copy(update={"measurements": ["mine"]}))
    finally:
        del MEASUREMENTS._items["mine"], MEASUREMENTS._registrations["mine"]


def test_the_paths_of_a_run_hold_in_every_folder(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked with relative paths is carried out again from another folder."""
    texts = [path.read_text() for path in write_corpus(tmp_path / "text").iterdir()]
    build_tokenizer("bpe:300", texts).save(tmp_path / "my.json")
    monkeypatch.chdir(tmp_path)
    short = {"tokens": 512, "validation_tokens": 256}
    for tokenizer in ("bytes", "my.json"):
        data = {"corpus": "text:text/*.txt", "tokenizer": tokenizer}
        config = make(("gpt1",), (0,), data=data, training=short, measurements=[])
        first = train(config, tmp_path / f"{tokenizer}-here", lambda _: None, [])
        stored = StudyConfig.parse(read_yaml(tmp_path / f"{tokenizer}-here" / "config.yaml"))
        (tmp_path / "other").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "other")
        again = train(stored, tmp_path / f"{tokenizer}-there", lambda _: None, [])
        assert again.record.spec_digest == first.record.spec_digest
        assert weights(tmp_path / f"{tokenizer}-here") == weights(tmp_path / f"{tokenizer}-there")
        monkeypatch.chdir(tmp_path)
        assert train(config, tmp_path / f"{tokenizer}-here", lambda _: None, []) == first, "shown, not repeated"


def weights(folder: Path) -> bytes:
    return (folder / "checkpoint" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_study_that_is_killed_with_its_workers_ends_in_the_same_bytes(
    how: signal.Signals, make: Make, tmp_path: Path
) -> None:
    """The parent dies at random moments; its workers die with it, and the same command continues."""
    config = make(
        ("gpt1", "mamba2"), (0, 1), measurements=[], training={"tokens": 300 * 256, "checkpoint_interval": 20}
    )
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    shared = [sys.executable, "-m", "assay", "compare", "--config", "config.yaml"]
    # A process of its own too: there ops run in C++ where they can, and in those of tests they do not.
    subprocess.run([*shared, "--out", "whole", "--workers", "1"], cwd=tmp_path, check=False, capture_output=True)
    command = [*shared, "--out", "parts", "--workers", "2"]
    for seconds in (5.0, 7.0, 9.0):
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(seconds)
            process.send_signal(how)
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    for whole in (tmp_path / "whole" / "runs").iterdir():
        assert weights(tmp_path / "parts" / "runs" / whole.name) == weights(whole)
