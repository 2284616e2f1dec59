"""A worker process, `python -m assay.study.executor.worker FOLDER`: carries out the run of FOLDER/config.yaml.

It ends when its parent ends: its standard input is a pipe that the parent holds open. Exit status 0: done; 2: the
request is wrong (one line on standard error); anything else: the worker died.
"""

import os
import sys
import threading
from pathlib import Path

from assay.errors import WRONG_REQUEST, RequestError


def main(folder: Path) -> int:
    """Finish the run in `folder`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from assay.plugins.blame import blamed
    from assay.study.folder import stored_config
    from assay.study.run import train
    from assay.study.sources import load_listed

    try:
        config = stored_config(folder, "run")
        if config is None:
            raise RequestError(f"{folder}: holds no run")
        load_listed(config.plugins, f"{folder.name}: plugin")
        train(config, folder, lambda _: None, [])
    except RequestError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"{error.filename or folder}: {error.strerror or error}")
    except Exception as error:
        line = blamed(error)
        if line is None:
            raise
        return _complain(line)
    return 0


def _end_with_parent() -> None:
    """Wait until the parent closes the pipe or dies, then end this process.

    It reads from the file descriptor, as sys.stdin has a lock.
    """
    while os.read(0, 1):
        pass
    os._exit(1)


def _complain(line: str) -> int:
    print(" ".join(line.split()), file=sys.stderr, flush=True)
    return WRONG_REQUEST


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
