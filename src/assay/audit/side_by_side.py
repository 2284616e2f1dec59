"""Two parts of an audit: at the same time where a second core is free, the second one in a copy of this process."""

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.audit.subject.memory import reachable
from assay.audit.subject.subject import Subject
from assay.records import Finding

Tell = Callable[[str], None]
Part = Callable[[Tell], list[Finding]]
"""Checks that tell what they are at; in the copy nobody hears it."""

LEAST_SECONDS, TIMES = 60.0, 10.0
"""How long the copy may take after the part in this process: the longer of LEAST_SECONDS and TIMES that part's own."""


@dataclass
class Learned:
    """What a part of the audit finds out about its subject that the next parts need."""

    restores: bool
    alone: bool
    narrow_seen: bool
    most_rows: int
    unsearched: dict[str, str]

    @classmethod
    def of(cls, subject: Subject) -> "Learned":
        s = subject
        return cls(s.restores, s.alone, s.narrow_seen, s.most_rows, dict(s.unsearched))

    def put_into(self, subject: Subject) -> None:
        subject.restores, subject.alone, subject.narrow_seen = self.restores, self.alone, self.narrow_seen
        subject.most_rows, subject.unsearched = self.most_rows, dict(self.unsearched)

    def with_(self, other: "Learned") -> "Learned":
        return Learned(
            self.restores or other.restores,
            self.alone or other.alone,
            self.narrow_seen or other.narrow_seen,
            min(self.most_rows, other.most_rows),
            self.unsearched | other.unsearched,
        )


def side_by_side(subject: Subject, first: Part, second: Part, tell: Tell) -> list[Finding]:
    """The findings of both parts. Neither knows what the other finds out about the subject; afterwards both count.

    So the answer is the same whether they run at the same time or one after the other. A copy of the process that ends
    without an answer, or gives none in time, is as if it had never been: its part runs here.
    """
    before = Learned.of(subject)
    if not _can_be_copied(subject):
        found, learned = _run(subject, first, before, tell)
        return [*found, *_after(subject, second, before, learned, tell)]
    with _thread_each(), _copy(subject, second, before) as answer:
        started = time.monotonic()
        found, learned = _run(subject, first, before, tell)
        tell("the other half, in a second process")
        given = answer(max(LEAST_SECONDS, TIMES * (time.monotonic() - started)))
        if given is None:
            return [*found, *_after(subject, second, before, learned, tell)]
        learned.with_(given[1]).put_into(subject)
        return [*found, *given[0]]


def _run(subject: Subject, part: Part, before: Learned, tell: Tell) -> tuple[list[Finding], Learned]:
    before.put_into(subject)
    found = part(tell)
    return found, Learned.of(subject)


def _after(subject: Subject, part: Part, before: Learned, learned: Learned, tell: Tell) -> list[Finding]:
    found, more = _run(subject, part, before, tell)
    learned.with_(more).put_into(subject)
    return found


def _can_be_copied(subject: Subject) -> bool:
    """Whether a copy of this process can run the model: on Linux and a CPU, with no other thread and nothing shared."""
    if sys.platform != "linux" or torch.get_num_threads() < 2 or threading.active_count() > 1:
        return False
    if subject.device.type != "cpu" or torch.cuda.is_initialized():
        return False
    tensors = (value for value in reachable(subject.model) if isinstance(value, Tensor))
    return not any(tensor.device.type != "cpu" or tensor.is_shared() for tensor in tensors)


@contextmanager
def _thread_each() -> Iterator[None]:
    """Inside the block torch has one thread here fewer, as the copy has one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads - 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


Answer = Callable[[float], tuple[list[Finding], Learned] | None]


@contextmanager
def _copy(subject: Subject, part: Part, before: Learned) -> Iterator[Answer]:
    """Run `part` in a copy of the process; yields what waits for its answer, some seconds at most."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(subject, part, before, reading, writing)
    os.close(writing)
    try:
        yield lambda seconds: _read(reading, seconds)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _answer(subject: Subject, part: Part, before: Learned, reading: int, writing: int) -> None:
    """In the copy: run the part, write its answer and end, without what a process does at its end."""
    try:
        os.close(reading)
        torch.set_num_threads(1)  # the threads of the process were not copied
        found, learned = _run(subject, part, before, lambda _: None)
        answer = {"findings": [finding.model_dump(mode="json") for finding in found], "learned": vars(learned)}
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            json.dump(answer, pipe)
            pipe.write("\n")
    finally:
        os._exit(0)  # whatever was raised: the process that waits runs the part itself


def _read(reading: int, seconds: float) -> tuple[list[Finding], Learned] | None:
    """The answer written to the pipe; None where the copy ended without one, or it takes longer than `seconds`."""
    deadline, parts = time.monotonic() + seconds, list[bytes]()
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reading, 1 << 16)
        if not part:
            text = b"".join(parts)
            if not text.endswith(b"\n"):
                return None
            answer = json.loads(text)
            return [Finding.model_validate(one) for one in answer["findings"]], Learned(**answer["learned"])
        parts.append(part)
    return None
