"""`assay new`: a file with something that works, to be changed into one's own."""

import builtins
import importlib.util
import keyword
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.program import program
from assay.errors import RequestError

LONGEST_NAME = 32
"""With longer ones the lines of a template would no longer be as formatters lay them out."""


@dataclass(frozen=True)
class Kind:
    """What can be begun: a noun, which is the template's name too, what the file holds, and what to do with it."""

    noun: str
    option: str
    """What stands before the name on the command line."""
    holds: str
    commands: Mapping[str, str]
    """Command, with {name} and {path} -> what it does."""

    @property
    def template(self) -> str:
        """The file's text, with $name and ${cls} to be filled in."""
        return files("assay.cli").joinpath("templates", f"{self.noun}.txt").read_text(encoding="utf-8")


MIXER = Kind(
    "mixer",
    "new ",
    "a running mean to change into your mixer",
    {
        "assay check {path}": "proves that it is causal and decodes as it trains",
        "assay compare {baseline} {name} --plugin {path}": "trains it beside a built-in one",
    },
)
CORPUS = Kind(
    "corpus",
    "new --corpus ",
    "sums to change into your text",
    {
        "assay list corpora --plugin {path}": "shows it beside the others",
        "assay compare --corpus {name} --plugin {path}": "compares architectures on it",
    },
)
TASK = Kind(
    "task",
    "new --task ",
    "a small task to change into yours",
    {
        "assay train {baseline} --task {name} --context 64 --plugin {path}": "trains on it",
        "assay compare --task {name}:length=24 --plugin {path}": "compares architectures on it",
    },
)
MEASUREMENT = Kind(
    "measurement",
    "new --measurement ",
    "a small measurement to change into yours",
    {
        "assay measure RUN --only {name} --plugin {path}": "asks it of what is trained",
        "assay compare --measure {name} --plugin {path}": "asks it of every run",
    },
)


def new(
    name: Annotated[str | None, typer.Argument(help="What the mixer is to be called, as in my_mixer.")] = None,
    corpus: Annotated[str | None, typer.Option(help="What a corpus is to be called, in place of a mixer.")] = None,
    task: Annotated[str | None, typer.Option(help="The same for a task.")] = None,
    measurement: Annotated[str | None, typer.Option(help="The same for a measurement.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="NAME.py")] = None,
) -> None:
    """Write a Python file that works, which `--plugin FILE` puts beside what is built in.

    A mixer, or with an option a corpus, a task or a measurement.
    """
    from assay.data.corpus import CORPORA
    from assay.data.task import TASKS
    from assay.evaluation.measurement import MEASUREMENTS
    from assay.model.architecture import ARCHITECTURES
    from assay.study.asked import DEFAULT_ARMS

    given = [
        (MIXER, name, "architecture", ARCHITECTURES.names()),
        (CORPUS, corpus, "corpus", CORPORA.names()),
        (TASK, task, "task", TASKS.names()),
        (MEASUREMENT, measurement, "measurement", MEASUREMENTS.names()),
    ]
    asked = [(kind, text, registry, names) for kind, text, registry, names in given if text is not None]
    if len(asked) != 1:
        options = ", ".join(f"--{kind.noun} NAME" for kind, *_ in given[1:])
        raise RequestError(f"new: {len(asked)} names given; NAME of a mixer, or {options}, would do, one at a time")
    ((kind, text, registry, names),) = asked
    path = _file_for(kind, text, registry, names, out)
    cls = class_name(text, kind)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(string.Template(kind.template).substitute(name=text, cls=cls))
    except FileExistsError:
        raise RequestError(f"--out {path}: is there already; another name or --out FILE would do") from None
    typer.echo(f"{path}: {kind.holds}")
    lines = [
        (program() + command.removeprefix("assay").format(path=path, name=text, baseline=DEFAULT_ARMS[0]), what)
        for command, what in kind.commands.items()
    ]
    width = max(len(command) for command, _ in lines) + 4
    for command, what in lines:
        typer.echo(f"{command:{width}}{what}")


def _file_for(kind: Kind, name: str, registry: str, taken: list[str], out: Path | None) -> Path:
    """Where the file goes; a RequestError where the name is none, is taken, or would hide a module."""
    given = f"{kind.option}{name}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise RequestError(f"{given}: a name of letters, digits, - and _ is needed that starts with a letter")
    if len(name) > LONGEST_NAME:
        raise RequestError(f"{given}: {len(name)} characters; a name of at most {LONGEST_NAME} would do")
    if name in taken:
        article = "an" if registry[0] in "aeiou" else "a"
        raise RequestError(f"{given}: there is {article} {registry} of that name; my_{name} would do")
    path = Path(f"{name}.py") if out is None else out
    if _is_module(path.stem):
        asked = given if out is None else f"--out {out}"
        raise RequestError(f"{asked}: a {path.name} would hide the module {path.stem}; my_{path.name} would do")
    return path


def class_name(name: str, kind: Kind) -> str:
    """MyMixer for my_mixer; with the kind's noun behind it where it would be a word of Python's, one that the file
    uses, or a letter that looks like a digit.
    """
    cls = "".join(part[:1].upper() + part[1:] for part in re.split(r"[_-]", name))
    used = {*keyword.kwlist, *dir(builtins), *re.findall(r"\w+", kind.template), "I", "O"}
    return f"{cls}{kind.noun.capitalize()}" if cls in used else cls


def _is_module(stem: str) -> bool:
    """Whether a file of that name would hide an installed module from a Python that is started in the same folder."""
    if not stem.isidentifier() or (spec := importlib.util.find_spec(stem)) is None:
        return False
    place = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    return Path.cwd() not in Path(place).parents
