"""`assay check`: checks every architecture that a file registers against what all architectures must keep."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import Json, Plugin, load_plugins
from assay.errors import RequestError

if TYPE_CHECKING:
    from rich.text import Text

    from assay.records import Finding


def check(
    subject: Annotated[str, typer.Argument(help="FILE.py that registers architectures, or the name of one.")],
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Check an architecture: causal, decodes as it trains, learns, and is what it declares. Exit status 1 if not."""
    load_plugins(plugin)

    from assay.audit.contract.architecture import check_architecture
    from assay.cli.progress import Stages
    from assay.model.architecture import ARCHITECTURES
    from assay.model.contract import check_shapes
    from assay.study.subject.file import registered_by
    from assay.study.subject.subject import parse_subject

    named = parse_subject(subject)
    if named.kind == "file" and not named.name:
        architectures = registered_by(named.path)
        if not architectures:
            raise RequestError(f"{subject}: registers no architecture; `assay new my_mixer` writes a file that does")
    else:
        architectures = [ARCHITECTURES.get(subject)]
    results = {}
    with Stages() as stages:
        for architecture in architectures:
            stages.tell(f"{architecture.name}: checking")
            check_shapes(architecture)
            _, results[architecture.name] = check_architecture(architecture)
    kept = {name: not _named(findings, "fail") for name, findings in results.items()}
    if as_json:
        dumped = {name: [finding.model_dump(mode="json") for finding in found] for name, found in results.items()}
        typer.echo(json.dumps({"subject": subject, "passed": all(kept.values()), "findings": dumped}))
    else:
        from rich.console import Console

        from assay.cli.findings import findings_table

        console = Console(highlight=False)
        for name, findings in results.items():
            console.print(_verdict(name, findings))
            console.print(findings_table(findings))
            console.print()
    raise typer.Exit(0 if all(kept.values()) else 1)


def _named(findings: Sequence["Finding"], status: str) -> str:
    """The names of the checks that ended with `status`, as text."""
    return ", ".join(finding.check.replace("_", " ") for finding in findings if finding.status == status)


def _verdict(name: str, findings: Sequence["Finding"]) -> "Text":
    """Whether it passes, and what it is warned of."""
    from rich.text import Text

    warned = _named(findings, "warn")
    verdict = Text("FAILS", "bold red") if _named(findings, "fail") else Text("passes", "bold green")
    warning = Text(f", with a warning: {warned}" if warned else "", "yellow")
    infinite = [of for of in findings if of.check == "activations" and of.status in ("warn", "fail")]
    where = Text(f"; the first NaN or infinity is in what {infinite[0].where} returns" if infinite else "", "yellow")
    return Text(f"{name}: ", "bold") + verdict + warning + where
