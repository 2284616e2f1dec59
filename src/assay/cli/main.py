"""The command line: its verbs, and the one place where errors become a line and an exit status."""

import errno
import os
import sys
import traceback
from collections.abc import Callable

import typer
from typer.exceptions import TyperException

from assay import __version__
from assay.cli.audit import audit
from assay.cli.check import check
from assay.cli.compare import compare
from assay.cli.describe import describe
from assay.cli.examples import EXAMPLES
from assay.cli.export import export
from assay.cli.gate import gate
from assay.cli.generate import generate
from assay.cli.import_ import import_model
from assay.cli.listing import list_all
from assay.cli.measure import measure
from assay.cli.new import new
from assay.cli.program import as_called
from assay.cli.report import report
from assay.cli.streams import open_missing, refuse_unreadable, tell
from assay.cli.train import train
from assay.errors import WRONG_REQUEST, RequestError, WorkerError

DONE, NEGATIVE, OUR_FAULT, INTERRUPTED = 0, 1, 70, 130

app = typer.Typer(
    name="assay",
    help="Decides, with evidence, whether a sequence-model architecture deserves to be scaled.",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
VERBS: dict[str, Callable[..., None]] = {
    "compare": compare,
    "gate": gate,
    "train": train,
    "list": list_all,
    "describe": describe,
    "new": new,
    "measure": measure,
    "report": report,
    "check": check,
    "audit": audit,
    "generate": generate,
    "import": import_model,
    "export": export,
}
for name, verb in VERBS.items():
    app.command(name, epilog=f"Example: {EXAMPLES[name]}")(verb)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"assay {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status; a wrong request is one line on standard error."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        refuse_unreadable(given)
        status = app(args=given or ["--help"], prog_name="assay", standalone_mode=False)
    except RequestError as error:
        return _complain(str(error), WRONG_REQUEST)
    except TyperException as error:
        command = " ".join(["assay", *(verb for verb in given[:1] if verb in VERBS)])
        what = error.format_message().rstrip(".")
        return _complain(f"{what}; `{command} --help` says what would do", WRONG_REQUEST)
    except SystemExit as error:  # raised by typer for a closed pipe, as in `assay list | head -1`, or by a plug-in
        plugin = _blamed(error)
        return DONE if plugin is None else _complain(plugin, WRONG_REQUEST)
    except OSError as error:
        return _complain(_explain(error), WRONG_REQUEST)
    except MemoryError as error:
        why = f": {error}" if str(error) else ""
        return _complain(f"not enough memory{why}; smaller numbers of tokens or parameters would do", WRONG_REQUEST)
    except WorkerError as error:
        return _complain(str(error), OUR_FAULT)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BaseException as error:  # a plug-in can raise anything
        plugin = _blamed(error)
        if plugin is None and not isinstance(error, Exception):
            raise
        return _confess(error) if plugin is None else _complain(plugin, WRONG_REQUEST)
    if status == INTERRUPTED:  # typer's exit status after Ctrl-C
        return _complain("interrupted; the same command continues from the last checkpoint", INTERRUPTED)
    return status if isinstance(status, int) else DONE


def run() -> None:
    """The console script."""
    open_missing()
    sys.exit(main())


def _blamed(error: BaseException) -> str | None:
    """The line that names the plug-in which raised it; None where no plug-in did."""
    from assay.plugins.blame import blamed

    return blamed(error)


def _complain(text: str, status: int) -> int:
    tell(f"assay: {as_called(' '.join(text.split()))}")
    return status


def _confess(error: BaseException) -> int:
    """Report a bug in assay: one line, and the traceback if ASSAY_TRACEBACK is set."""
    if os.environ.get("ASSAY_TRACEBACK"):
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _complain(f"our fault: {what} (ASSAY_TRACEBACK=1 shows where)", OUR_FAULT)


def _explain(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{where}no space left; make room for files or standard output, or give another --out or ASSAY_CACHE, and "
            "the same command continues"
        )
    return f"{where}{error.strerror or error}"
