"""The command line: its verbs, and the one place where errors become a line and an exit status."""

import errno
import os
import sys

import typer
from typer.exceptions import TyperException

from assay import __version__
from assay.cli.compare import compare
from assay.cli.describe import describe
from assay.cli.listing import list_all
from assay.cli.report import report
from assay.cli.train import train
from assay.errors import RequestError

DONE, NEGATIVE, WRONG_REQUEST, OUR_FAULT, INTERRUPTED = 0, 1, 2, 70, 130

app = typer.Typer(
    name="assay",
    help="Decides, with evidence, whether a sequence-model architecture deserves to be scaled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("compare")(compare)
app.command("train")(train)
app.command("list")(list_all)
app.command("describe")(describe)
app.command("report")(report)


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
    try:
        status = app(args=arguments, prog_name="assay", standalone_mode=False)
    except RequestError as error:
        return _complain(str(error), WRONG_REQUEST)
    except TyperException as error:
        return _complain(error.format_message(), WRONG_REQUEST)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted; the same command continues from the last checkpoint", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return _complain(_explain(error), WRONG_REQUEST)
    return status if isinstance(status, int) else DONE


def run() -> None:
    """The console script."""
    sys.exit(main())


def _complain(text: str, status: int) -> int:
    print(f"assay: {' '.join(text.split())}", file=sys.stderr)
    return status


def _explain(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}no space left; make room or give another --out or ASSAY_CACHE, and the same command continues"
    return f"{where}{error.strerror or error}"
