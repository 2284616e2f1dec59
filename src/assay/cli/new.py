"""`assay new`: writes a file with a working mixer, for the user to change into their own."""

import builtins
import importlib.util
import keyword
import re
import string
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from assay.errors import RequestError


def new(
    name: Annotated[str, typer.Argument(help="What the mixer is to be called, as in my_mixer.")],
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="NAME.py")] = None,
) -> None:
    """Write a Python file with a small working mixer, which `--plugin FILE` puts beside the built-in ones."""
    from assay.model.architecture import ARCHITECTURES

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise RequestError(f"new {name}: a name of letters, digits, - and _ is needed that starts with a letter")
    if name in ARCHITECTURES.names():
        raise RequestError(f"new {name}: there is an architecture of that name; my_{name} would do")
    path = Path(f"{name}.py") if out is None else out
    if _is_module(path.stem):
        asked = f"new {name}" if out is None else f"--out {out}"
        raise RequestError(f"{asked}: a {path.name} would hide the module {path.stem}; my_{path.name} would do")
    template = files("assay.cli").joinpath("mixer_template.txt").read_text(encoding="utf-8")
    cls = class_name(name, template)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(string.Template(template).substitute(name=name, cls=cls))
    except FileExistsError:
        raise RequestError(f"--out {path}: is there already; another name or --out FILE would do") from None
    typer.echo(f"{path}: a running mean to change into your mixer")
    typer.echo(f"assay check {path}                              proves that it is causal and decodes as it trains")
    typer.echo(f"assay compare gpt1 {name} --plugin {path}    trains it beside the built-in ones")


def class_name(name: str, template: str) -> str:
    """MyMixer for my_mixer; with "Mixer" appended where the name is a keyword of Python or used in the file."""
    cls = "".join(part[:1].upper() + part[1:] for part in re.split(r"[_-]", name))
    used = {*keyword.kwlist, *dir(builtins), *re.findall(r"\w+", template)}
    return f"{cls}Mixer" if {cls, f"{cls}State"} & used else cls


def _is_module(stem: str) -> bool:
    """Whether a file of that name would hide an installed module from a Python that is started in the same folder."""
    if not stem.isidentifier() or (spec := importlib.util.find_spec(stem)) is None:
        return False
    place = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    return Path.cwd() not in Path(place).parents
