"""An audit in two processes finds what one in a single process finds."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest
import torch
from torch import nn

from assay.audit.side_by_side import Learned, side_by_side
from assay.audit.subject.subject import Subject
from assay.records import Finding

PASSED = Finding(check="length", status="pass", explanation="in the first part")


def _silent(_: str) -> None:
    pass


def _second(does: Callable[[Subject], object], subject: Subject) -> Callable[..., list[Finding]]:
    def part(_: object) -> list[Finding]:
        does(subject)
        return [Finding(check="rows", status="pass", explanation=str(os.getpid()))]

    return part


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of one Python thread and two of torch, which a worker of the tests is not."""
    monkeypatch.setattr("assay.audit.side_by_side._can_be_copied", lambda _: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.usefixtures("copied")
class TestCopies:
    def test_both_parts_answer_and_what_they_learn_is_put_together(self) -> None:
        subject = Subject(nn.Linear(2, 2))

        def first(_: object) -> list[Finding]:
            assert not subject.alone
            subject.restores, subject.unsearched = True, {"one": "a"}
            return [PASSED]

        def learns(subject: Subject) -> None:
            assert not subject.restores, "a part does not know what the other finds out"
            subject.alone, subject.unsearched = True, {"two": "b"}

        one, two = side_by_side(subject, first, _second(learns, subject), _silent)
        assert one == PASSED
        assert two.explanation != str(os.getpid())
        assert Learned.of(subject) == Learned(True, True, False, subject.most_rows, {"one": "a", "two": "b"})

    @pytest.mark.parametrize("end", [lambda _: os._exit(3), lambda _: os.kill(os.getpid(), signal.SIGKILL)])
    def test_a_copy_that_dies_is_as_if_it_had_never_been(self, end: Callable[[object], object]) -> None:
        subject, here = Subject(nn.Linear(2, 2)), os.getpid()

        def dies_elsewhere(_: object) -> None:
            if os.getpid() != here:
                end(None)

        _, two = side_by_side(subject, lambda _: [PASSED], _second(dies_elsewhere, subject), _silent)
        assert two.explanation == str(here)

    def test_a_copy_that_hangs_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("assay.audit.side_by_side.LEAST_SECONDS", 0.2)
        subject, here = Subject(nn.Linear(2, 2)), os.getpid()

        def hangs_elsewhere(_: object) -> None:
            while os.getpid() != here:
                pass

        _, two = side_by_side(subject, lambda _: [PASSED], _second(hangs_elsewhere, subject), _silent)
        assert two.explanation == str(here)


def test_tensors_shared_between_processes_are_not_written_by_two() -> None:
    from assay.audit.side_by_side import _can_be_copied

    assert not _can_be_copied(Subject(nn.Linear(2, 2).share_memory()))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
def test_reports_do_not_depend_on_the_number_of_processes() -> None:
    program = """
    import json, os, torch, assay
    from torch import nn
    from assay.audit import side_by_side

    class Leaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.out, self.seen = nn.Embedding(32, 8), nn.Linear(8, 32), None
        def forward(self, ids):
            x = self.table(ids)
            return self.out(x.cumsum(1) + 1e-3 * x.mean(1, keepdim=True))

    forks = []
    os.register_at_fork(before=lambda: forks.append(1))
    torch.manual_seed(0)
    for model in (assay.build("gpt1", size=6_000, vocab_size=32), Leaky()):
        reports = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            reports.append(assay.audit(model, max_length=64).model_dump_json())
            print(threads, len(forks), torch.get_num_threads())
        assert reports[0] == reports[1], reports
        print(json.loads(reports[0])["sound"])
    """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split("\n")[:-1] == ["1 0 1", "2 2 2", "True", "1 2 1", "2 4 2", "False"]
