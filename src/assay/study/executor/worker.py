"""A worker process, `python -m assay.study.executor.worker`: carries out runs, each from its folder's config.yaml.

Its standard input has a line of JSON for each run, with its number, the folder and the file for what it says. When a
run is done it writes a line with the number to its standard output and waits for the next. It ends after a run with
code from outside assay, as that code may keep something from one run to the next, and after one on a GPU, whose memory
it would hold. It ends when its parent does: the input is a pipe that the parent holds open. Exit status 0: done; 2: the
request is wrong (one line in the log); anything else: the worker died.
"""

import json
import os
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from assay.errors import WRONG_REQUEST, RequestError


def main() -> int:
    """Carry out what the input asks for."""
    asked: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read_input, args=(asked,), daemon=True).start()
    answers = _take_output()
    while True:
        request = json.loads(asked.get())
        with Path(request["log"]).open("ab") as log:
            os.dup2(log.fileno(), sys.stderr.fileno())
        status, again = carry_out(Path(request["folder"]))
        if status != 0 or not again:
            return status
        answers.write(f"done {request['number']}\n".encode())
        answers.flush()


def carry_out(folder: Path) -> tuple[int, bool]:
    """Finish the run in `folder`: the exit status, and whether this process may carry out another run."""
    from assay.plugins.blame import blamed
    from assay.study.folder import stored_config
    from assay.study.run import train
    from assay.study.sources import load_listed, takes_outside_code
    from assay.training.memory import PeakMemory
    from assay.training.native import IN_CPP, IN_PYTHON

    try:
        config = stored_config(folder, "run")
        if config is None:
            raise RequestError(f"{folder}: holds no run")
        load_listed(config.plugins, f"{folder.name}: plugin")
        run = train(config, folder, lambda _: None, [])
    except RequestError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"{error.filename or folder}: {error.strerror or error}")
    except Exception as error:
        line = blamed(error)
        if line is None:
            raise
        return _complain(line)
    PeakMemory.used = True
    # What could not be built may be built for the next run; a device's memory belongs to whoever trains on it.
    as_planned = run.record.environment.get("ops") in (None, IN_CPP, IN_PYTHON)
    return 0, as_planned and run.record.plan["device"] == "cpu" and not takes_outside_code(config)


def _read_input(asked: SimpleQueue[bytes]) -> None:
    """Pass the lines on until the parent closes the pipe or dies, then end this process.

    It reads from the file descriptor, as sys.stdin has a lock.
    """
    torn = b""
    while content := os.read(0, 4096):
        *lines, torn = (torn + content).split(b"\n")
        for line in lines:
            asked.put(line)
    os._exit(1)


def _take_output() -> IO[bytes]:
    """The standard output for answers alone: what is printed from now on goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return answers


def _complain(line: str) -> tuple[int, bool]:
    print(" ".join(line.split()), file=sys.stderr, flush=True)
    return WRONG_REQUEST, False


if __name__ == "__main__":
    sys.exit(main())
