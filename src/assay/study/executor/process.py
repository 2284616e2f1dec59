"""A worker process as its parent sees it: gets the folders of runs one after the other, and says when each is done."""

import contextlib
import json
import os
import site
import subprocess
import sys
from pathlib import Path
from typing import IO

COMMAND = (sys.executable, "-P", "-m", "assay.study.executor.worker")
LOG = ".worker.log"
"""The file in the run's folder that holds a worker's output; removed when the run is done."""
LAST_LINES = 3


class WorkerProcess:
    """The process starts with its first run."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path()
        self._number, self._heard = 0, b""
        self.waits = False
        """Whether it is done with its run and ready for another."""

    def give(self, folder: Path) -> None:
        """Let it carry out the run in `folder`."""
        folder = folder.absolute()  # the current folder may have changed since the process began
        self._log, self.waits = folder / LOG, False
        self._number += 1
        self._log.write_bytes(b"")
        if self._process is None:
            with self._log.open("ab") as log:  # what it says before it reads the folder's name
                self._process = subprocess.Popen(
                    COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_environment()
                )
            os.set_blocking(_pipe(self._process.stdout).fileno(), False)
        line = json.dumps({"number": self._number, "folder": str(folder), "log": str(self._log)})
        with contextlib.suppress(BrokenPipeError):  # it has died, which its status tells
            to = _pipe(self._process.stdin)
            to.write(f"{line}\n".encode())
            to.flush()

    def status(self) -> int | None:
        """0 when its run is done, otherwise how it ended, as subprocess.Popen.returncode; None while it is at work."""
        assert self._process is not None
        ended = self._process.poll()
        self._heard += _pipe(self._process.stdout).read() or b""
        self.waits = ended is None and f"done {self._number}".encode() in self._heard.split(b"\n")
        return 0 if self.waits else ended

    def lives(self) -> bool:
        """Whether it could take another run."""
        return self._process is not None and self._process.poll() is None

    def last_lines(self) -> str:
        """Its last output on this run in one line; removes the log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        self._log.unlink()
        return " / ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:]) or "it said nothing"

    def kill(self) -> None:
        """End it, whatever it does, and remove the log."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                _pipe(pipe).close()
        self._log.unlink(missing_ok=True)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "the process was started with pipes"
    return stream


def _environment() -> dict[str, str]:
    """The environment of a worker: that of this process, with assay's folder on PYTHONPATH if it is not installed."""
    root = str(Path(__file__).parents[3])
    if root in site.getsitepackages():
        return dict(os.environ)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
